// Tests the core of the browser library without a browser: in an engine without the features that old browsers lack,
// with a transport that the tests control.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import vm from 'node:vm';
import { BARE, joined, read } from './parts.mjs';

const source = joined(BARE);

function storage() {
  const kept = new Map();
  return { getItem: key => kept.get(key) ?? null, setItem: (key, value) => { kept.set(key, String(value)); } };
}

// The globals of a page, with a clock that does not move until a test moves it.
function world({ json = true, transports = [['hand']], stored, lazy = [], parts, Xhr = function () {}, performance, more } = {}) {
  let now = 1000;
  let timers = [];
  const sandbox = { location: { protocol: 'http:', host: 'here:80' }, XMLHttpRequest: Xhr, performance, ...more };
  sandbox.window = sandbox;
  sandbox.self = sandbox;
  sandbox.localStorage = stored ?? storage();
  sandbox.setTimeout = (fn, wait) => {
    const timer = { fn, at: now + (wait || 0) };
    timers.push(timer);
    return timer;
  };
  sandbox.clearTimeout = timer => { timers = timers.filter(other => other !== timer); };
  vm.createContext(sandbox);
  if (!json) vm.runInContext('JSON = undefined', sandbox);
  sandbox.clock = () => now;
  vm.runInContext('Date.prototype.getTime = function () { return clock(); };', sandbox);
  vm.runInContext(parts ? joined(['intro', ...BARE.slice(1, -1), ...parts, 'outro']) : source, sandbox);
  for (const name of lazy) vm.runInContext(read(name), sandbox);
  if (!json) vm.runInContext(read('legacy') + 'LongtailFiles.legacy(Longtail);', sandbox);
  const links = [];
  // A transport that the tests control: each time the core opens it, the link is added to `links`.
  const hand = (name, more) => sandbox.Longtail.transports.push({
    name,
    usable: () => true,
    open: link => {
      links.push(link);
      link.closed = false;
      return link;
    },
    close: link => { link.closed = true; },
    ...more
  });
  for (const transport of transports) hand(...transport);
  // Moves the clock, and runs the timers that are due, in their order.
  const pass = time => {
    const end = now + time;
    for (;;) {
      const due = timers.filter(timer => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      timers = timers.filter(timer => timer !== due);
      now = due.at;
      due.fn();
    }
    now = end;
  };
  return { Longtail: sandbox.Longtail, links, pass, stored: sandbox.localStorage, step: time => { now += time; }, waits: () => timers.map(timer => timer.at - now) };
}

function connected(options, setting) {
  const page = world(setting);
  const seen = [];
  const lt = page.Longtail.connect('', { channels: ['a', 'b'], client: 'me', ...options });
  for (const name of ['message', 'open', 'gap', 'error', 'close', 'transport']) {
    lt.on(name, value => seen.push([name, value]));
  }
  page.pass(0);
  return { ...page, lt, seen, of: name => seen.filter(([n]) => n === name).map(([, value]) => value) };
}

const message = (id, more) => ({ id, channel: 'a', event: 'message', data: 1, ...more });

test('JSON without JSON', () => {
  const { Longtail } = world({ json: false });
  for (const value of [
    null, true, -1.5e300, '', 'a"b\\c/d', '\u2028\u2029\u0000\u001f\u007f</script>', [], {}, [[[]]],
    { a: [1, { b: null }], 'c"': 'd\\' }, 'žluťoučký 💧', '[],:{}', 'function(){}'
  ]) {
    for (const text of [JSON.stringify(value), Longtail.encode(value)]) {
      assert.deepEqual(JSON.parse(JSON.stringify(Longtail.decode(text))), value, text);
      assert.deepEqual(JSON.parse(text), value, text);
    }
  }
  for (const text of ['alert(1)', '{"a":b}', '[1,2', '"a" + "b"', 'x', '{"a":1}; y()', '"\\x"', '(1)', '[]()', "'a'"]) {
    assert.throws(() => Longtail.decode(text), undefined, text);
  }
});

test('the address names channels, cursor and client', () => {
  const { links } = connected({ channels: ['a/b', 'c=d'], token: 't&' });
  assert.equal(links[0].url('/hand', 'x=1'), 'http://here:80/hand?channel=a%2Fb%2Cc%3Dd&cursor=latest&client=me&token=t%26&probe=1&x=1');
});

test('the cursor follows every object that has one, and a repeated message is dropped', () => {
  const { lt, links, of } = connected();
  links[0].item({ type: 'hello', cursor: 'c0', heartbeat: 15 });
  assert.equal(lt.cursor, 'c0');
  assert.equal(lt.state, 'open');
  links[0].item(message('c1'));
  links[0].item(message('c1'));
  links[0].item(message(undefined));
  assert.equal(lt.cursor, 'c1');
  assert.equal(of('message').length, 2);
  assert.equal(lt.stats.repeats, 1);
  links[0].item({ type: 'heartbeat', cursor: 'c2' });
  assert.equal(lt.cursor, 'c2');
  links[0].item({ type: 'gap', from: 'c2', cursor: 'c9' });
  assert.equal(lt.cursor, 'c9');
  assert.equal(of('gap').length, 1);
});

test('named events go to their listeners, except under names of the library', () => {
  const { lt, links } = connected();
  const got = [];
  lt.on('itemAdded', (data, whole) => got.push([data, whole.id]));
  lt.on('constructor', data => got.push(data));
  lt.on('close', () => got.push('closed'));
  links[0].item(message('c1', { event: 'itemAdded', data: { x: 1 } }));
  links[0].item(message('c2', { event: 'close' }));
  links[0].item(message('c3', { event: 'constructor', data: 3 }));
  links[0].item(message('c4', { event: 'toString' }));
  assert.deepEqual(got, [[{ x: 1 }, 'c1'], 3]);
});

test('after a bye with a time it reconnects at that time, from the cursor of the bye', () => {
  const { links, pass } = connected();
  links[0].item({ type: 'hello', cursor: 'c0', heartbeat: 15 });
  links[0].item({ type: 'bye', code: 4000, reason: 'rollover', retry: 700, cursor: 'c5' });
  assert.ok(links[0].closed);
  pass(699);
  assert.equal(links.length, 1);
  pass(1);
  assert.equal(links.length, 2);
  assert.match(links[1].url('/x'), /cursor=c5/);
  links[0].item(message('late'));
  links[0].end();
  assert.equal(links.length, 2);
});

test('a bye without a time is final, and so is a permanent refusal', () => {
  for (const end of [
    link => link.item({ type: 'bye', code: 4003, reason: 'revoked' }),
    link => link.end({ code: 'bad_channel', message: '' }),
    link => link.batch({ error: { code: 'unauthorized', message: '' } })
  ]) {
    const { lt, links, pass, of } = connected();
    end(links[0]);
    pass(600000);
    assert.equal(links.length, 1);
    assert.equal(lt.state, 'closed');
    assert.equal(of('close').length, 1);
  }
});

test('it waits longer after each failure, and never for the same time', () => {
  const { links, pass, waits } = connected();
  const paused = [];
  for (let i = 0; i < 12; i++) {
    links.at(-1).end({ code: 'unreachable', message: '' });
    const wait = Math.min(...waits());
    paused.push(wait);
    pass(wait + 1);
    assert.equal(links.length, i + 2);
  }
  for (const [i, wait] of paused.entries()) {
    const most = Math.min(30000, 500 * 2 ** i);
    assert.ok(wait >= most / 2 && wait <= most, `${i}: ${wait}`);
  }
  assert.ok(new Set(paused).size > 8);
});

test('a silent stream is taken for dead', () => {
  const { links, pass } = connected();
  pass(15001);
  assert.ok(links[0].closed, 'no hello');
  pass(600);
  const link = links.at(-1);
  link.item({ type: 'hello', cursor: 'c0', heartbeat: 10 });
  pass(12000);
  link.item({ type: 'heartbeat', cursor: 'c1' });
  pass(12000);
  assert.ok(!link.closed);
  pass(5000);
  assert.ok(link.closed, 'no heartbeat');
});

const BATCH = { transports: [['hand', { batch: true, parks: true }]] };

test('batches: messages, then the cursor, then the next request', () => {
  const { lt, links, pass, of } = connected({ interval: 50 }, BATCH);
  links[0].batch({ gap: { from: 'old' }, cursor: 'c7', messages: [message('c1'), message('c2')] });
  assert.equal(lt.cursor, 'c7');
  assert.equal(of('gap')[0].from, 'old');
  assert.equal(of('message').length, 2);
  pass(0);
  assert.equal(lt.stats.requests, 2);
  assert.match(links[1].url('/x'), /cursor=c7/);
  assert.equal(links[1].park, 25);
});

test('a listener that closes in the middle of a batch gets no more messages', () => {
  const { lt, links, pass, of } = connected({}, BATCH);
  lt.on('message', () => lt.close());
  links[0].batch({ cursor: 'c7', messages: [message('c1'), message('c2')] });
  pass(60000);
  assert.equal(of('message').length, 1);
  assert.equal(links.length, 1);
});

test('a listener that throws does not stop the others', () => {
  const { lt, links, pass } = connected();
  let reached = false;
  lt.off('message');
  lt.on('message', () => { throw new Error('of the page'); });
  lt.on('message', () => { reached = true; });
  links[0].item(message('c1'));
  assert.ok(reached);
  assert.throws(() => pass(1), /of the page/);
});

test('pause, resume, subscribe and use go on from the cursor', () => {
  const { lt, links, pass } = connected();
  links[0].item(message('c1'));
  lt.pause();
  assert.ok(links[0].closed);
  pass(600000);
  assert.equal(links.length, 1);
  lt.resume();
  assert.match(links[1].url('/x'), /cursor=c1/);
  lt.subscribe('c');
  assert.match(links[2].url('/x'), /channel=a%2Cb%2Cc&cursor=c1/);
  lt.unsubscribe('a');
  assert.match(links[3].url('/x'), /channel=b%2Cc&cursor=c1/);
  lt.use(['nothing']);
  assert.equal(lt.state, 'closed');
});

test('the first request contains what was asked for before it', () => {
  const page = world({ transports: [['hand'], ['held']] });
  const lt = page.Longtail.connect('', { channels: 'a' });
  lt.subscribe('b').unsubscribe('a').use(['held']);
  assert.equal(page.links.length, 0);
  page.pass(0);
  assert.deepEqual(page.links.map(link => [link.transport.name, lt.channels.join()]), [['held', 'b']]);
});

test('a connection that is paused or closed before it began does not begin', () => {
  const page = world();
  const [paused, closed] = [0, 1].map(() => page.Longtail.connect('', { channels: 'a' }));
  paused.pause();
  closed.close();
  page.pass(60000);
  assert.equal(page.links.length, 0);
  paused.resume();
  page.pass(0);
  assert.equal(page.links.length, 1);
  const again = page.Longtail.connect('', { channels: 'a' });
  again.pause().resume();
  page.pass(0);
  assert.equal(page.links.length, 2);
  assert.equal(closed.state, 'closed');
});

test('a connection without a channel waits for one', () => {
  const { lt, links, pass } = connected({ channels: [] });
  pass(60000);
  assert.equal(links.length, 0);
  assert.equal(lt.state, 'paused');
  lt.subscribe('a');
  links[0].item(message('c1'));
  lt.unsubscribe('a');
  assert.ok(links[0].closed);
  pass(60000);
  assert.equal(links.length, 1);
  lt.subscribe('b');
  assert.match(links[1].url('/x'), /channel=b&cursor=c1/);
  // A connection that the page has paused stays paused when the page adds a channel.
  lt.pause().subscribe('c');
  assert.equal(links.length, 2);
});

/* ---- the ladder ---- */

const LADDER = { transports: [['fast', { free: true }], ['held'], ['asks', { batch: true, parks: true }]] };
const hello = cursor => ({ type: 'hello', cursor, heartbeat: 15 });
const beat = cursor => ({ type: 'heartbeat', cursor });

// A connection whose first request was answered; the best transport is being tried.
function climbing(setting) {
  const page = connected({ interval: 2000 }, { ...LADDER, ...setting });
  const named = name => page.links.filter(link => link.transport.name === name);
  page.links[0].batch({ cursor: 'c0', messages: [] });
  return { ...page, named, newest: name => named(name).at(-1) };
}

test('it begins with a request that is answered at once, then tries the best transport beside it', () => {
  const { lt, links, of, newest } = climbing();
  assert.equal(links[0].transport.name, 'asks');
  assert.equal(JSON.stringify(of('open')), '[{"transport":"asks","cursor":"c0"}]');
  assert.equal(newest('fast').cursor, 'c0');
  assert.equal(lt.transport, 'asks');
});

test('a transport takes over when it has proven itself, and nothing is lost or doubled', () => {
  const { lt, pass, of, newest } = climbing();
  const fast = newest('fast');
  pass(100);
  fast.item(hello('c0'));
  fast.item(message('c1'));
  fast.item(message(undefined, { data: 'volatile' }));
  assert.equal(lt.transport, 'asks', 'the hello and what came with it are no proof');
  pass(400);
  newest('asks').batch({ cursor: 'c1', messages: [message('c1')] });
  assert.equal(of('message').length, 1);
  pass(100);
  fast.item(message('c2'));
  assert.equal(lt.transport, 'fast');
  assert.deepEqual(of('message').map(m => m.id), ['c1', 'c2']);
  assert.equal(lt.stats.repeats, 1);
  assert.equal(lt.cursor, 'c2');
  assert.equal(newest('asks').closed || !newest('asks').live(), true);
  fast.item(message('c3'));
  assert.deepEqual(of('message').map(m => m.id), ['c1', 'c2', 'c3']);
});

test('a transport that takes over does not set the cursor behind what was delivered', () => {
  for (const [what, objects, cursor] of [
    ['a heartbeat', [beat('c1')], 'c3'],
    ['a repeat', [message('c1')], 'c3'],
    ['a repeat, and then a new message', [message('c3'), message('c4')], 'c4']
  ]) {
    const { lt, pass, of, newest } = climbing();
    const fast = newest('fast');
    fast.item(hello('c0'));
    newest('asks').batch({ cursor: 'c3', messages: [message('c1'), message('c2'), message('c3')] });
    pass(300);
    for (const object of objects) fast.item(object);
    assert.equal(lt.transport, 'fast', what);
    assert.equal(lt.cursor, cursor, what);
    // The remaining messages of the previous transport.
    for (const id of ['c2', 'c3']) {
      fast.item(message(id));
      if (cursor === 'c3') assert.equal(lt.cursor, 'c3', `${what}, ${id}`);
    }
    fast.item(beat('c9'));
    assert.equal(lt.cursor, 'c9', what);
    assert.deepEqual(of('message').map(m => m.id), cursor === 'c3' ? ['c1', 'c2', 'c3'] : ['c1', 'c2', 'c3', 'c4'], what);
  }
});

test('a heartbeat proves a transport, and a gap that both links report is handed on once', () => {
  const { lt, of, newest } = climbing();
  newest('fast').item(hello('c0'));
  newest('fast').item({ type: 'gap', from: 'c0', cursor: 'c9' });
  newest('asks').batch({ gap: { from: 'c0' }, cursor: 'c9', messages: [] });
  newest('fast').item(beat('c9'));
  assert.equal(lt.transport, 'fast');
  assert.equal(of('gap').length, 1);
  assert.equal(lt.cursor, 'c9');
});

test('a silent transport is left alone for a while, the next is tried, and requests park in the end', () => {
  const { lt, pass, links, named, newest } = climbing();
  // Answers each request that is not parked.
  const answer = () => { if (!newest('asks').closed && !newest('asks').park) newest('asks').batch({ cursor: 'c0', messages: [] }); };
  for (let n = 0; n < 30 && !named('held').length; n++) { pass(500); answer(); }
  assert.ok(named('fast')[0].closed);
  assert.equal(named('held').length, 1);
  for (let n = 0; n < 30 && !newest('asks').park; n++) { pass(500); answer(); }
  assert.ok(newest('held').closed);
  assert.equal(newest('asks').park, 25);
  assert.equal(lt.transport, 'asks');
  // The core tries the best transport again after some seconds, even while a request waits, because this transport does
  // not take a connection.
  const before = links.length;
  for (let n = 0; n < 10 && named('fast').length < 2; n++) pass(1000);
  assert.equal(named('fast').length, 2);
  assert.ok(!newest('asks').closed, links.length - before);
});

test('two requests are never kept waiting at once', () => {
  const page = climbing({ transports: [['held'], ['asks', { batch: true, parks: true }]] });
  for (let n = 0; n < 400; n++) {
    page.pass(250);
    const open = page.links.filter((link, i) => !link.closed && page.links.lastIndexOf(link) === i && link.live());
    const waiting = open.filter(link => link.transport.name === 'held' || link._waited);
    assert.ok(waiting.length <= 1, `${n}: ${waiting.map(link => link.transport.name)}`);
    const asks = open.find(link => link.transport.name === 'asks');
    if (asks && (!asks.park || n % 40 === 0)) asks.batch({ cursor: 'c0', messages: [] });
  }
  assert.ok(page.named('held').length > 2);
});

test('a transport that ends early each time is tried less and less often, also on the next page', () => {
  const page = climbing();
  const tries = [];
  let passed = 0;
  for (let n = 0; n < 1200; n++) {
    page.pass(500);
    passed += 500;
    for (const link of new Set(page.links)) {
      if (link.closed || !link.live()) continue;
      if (link.transport.name === 'fast') {
        tries.push(passed);
        link.item(hello('c0'));
        link.item(beat('c0'));
        link.end();
      } else if (link.transport.name === 'asks' && (!link.park || n % 50 === 0)) {
        link.batch({ cursor: 'c0', messages: [] });
      }
    }
  }
  assert.ok(tries.length >= 4 && tries.length <= 8, String(tries));
  const pauses = tries.slice(1).map((time, i) => time - tries[i]);
  for (let i = 1; i < 3; i++) assert.ok(pauses[i] > 1.5 * pauses[i - 1], String(pauses));
  const next = climbing({ stored: page.stored });
  assert.equal(next.named('fast').length, 0, 'not tried at once on the next page');
});

test('a stream that falls silent after messages is checked by a request', () => {
  const asked = [];
  const { Longtail, lt, pass, newest, of, named } = climbing({ lazy: ['stream'], Xhr: class {
    constructor() { this.withCredentials = false; }
    open(method, url) { asked.push(this); this.url = url; }
    send() {}
    abort() {}
    getResponseHeader() { return null; }
    answer(status, object) {
      Object.assign(this, { status, readyState: 4, responseText: JSON.stringify(object) });
      this.onreadystatechange();
    }
  } });
  assert.ok(Longtail.now);
  const fast = newest('fast');
  fast.item(hello('c0'));
  fast.item(beat('c0'));
  for (let n = 1; n <= 10; n++) { pass(100); fast.item(message('c' + n)); }
  const untilAsked = count => {
    for (let n = 0; n < 200 && asked.length < count; n++) { pass(500); fast.item(beat(lt.cursor)); }
    assert.equal(asked.length, count);
    return asked.at(-1);
  };
  // Answers the request without a client id, which does not count as a reader, and then the one with it.
  const answerBoth = (count, status, object) => {
    const without = untilAsked(count);
    assert.doesNotMatch(without.url, /client=/);
    // It does not count as a request of a reader.
    assert.match(without.url, /[?&]probe=1/);
    without.answer(status, object);
    assert.equal(asked.length, count + 1, 'it asks again with its id');
    assert.match(asked.at(-1).url, /[&?]client=/);
    return asked.at(-1);
  };
  const first = untilAsked(1);
  assert.match(first.url, /\/poll\?.*cursor=c10/);
  first.answer(200, { cursor: 'c10', messages: [] });
  assert.equal(asked.length, 1, 'an empty answer needs no second request');
  assert.equal(lt.transport, 'fast', 'it is quiet, that is all');
  // Any answer proves that the path works.
  fast.item(beat('c10'));
  answerBoth(2, 429, { error: { code: 'rate_limited' } }).answer(429, { error: { code: 'rate_limited' } });
  pass(2000);
  assert.ok(!fast.closed, 'a refusal is an answer');
  answerBoth(4, 200, { cursor: 'c10b', messages: [message('c10b')] }).answer(200, { cursor: 'c10b', messages: [] });
  pass(2000);
  assert.ok(!fast.closed, 'the message excludes this client');
  fast.item(message('c10a'));
  answerBoth(6, 200, { cursor: 'c11', messages: [message('c11')] }).answer(200, { cursor: 'c11', messages: [message('c11')] });
  assert.equal(lt.transport, 'fast');
  pass(1001);
  assert.ok(fast.closed, 'it holds something back');
  pass(1001);
  assert.equal(newest('asks').cursor, 'c10a');
  newest('asks').batch({ cursor: 'c11', messages: [message('c11')] });
  assert.equal(of('message').at(-1).id, 'c11');
  assert.equal(lt.transport, 'asks');
  assert.ok(named('asks').length > 1);
});

test('a link that a tab shares is not checked: the leader checks its stream', () => {
  const urls = [];
  const { lt, pass, newest } = climbing({
    transports: [['asks', { batch: true }], ['shared', { free: true }]],
    lazy: ['stream'],
    Xhr: class {
      constructor() { this.withCredentials = false; }
      open(method, url) { urls.push(url); }
      send() {}
      abort() {}
    }
  });
  lt.use('shared');
  const shared = newest('shared');
  shared.item({ ...hello('c0'), heartbeat: 60 });
  for (let n = 1; n <= 10; n++) { pass(100); shared.item(message('c' + n)); }
  for (let n = 0; n < 20; n++) { pass(10000); shared.item(beat('c10')); }
  assert.equal(lt.transport, 'shared');
  assert.ok(!shared.closed);
  assert.deepEqual(urls, []);
});

test('after a request was cut while it waited, the next one waits for less', () => {
  const page = climbing({ transports: [['asks', { batch: true, parks: true }]] });
  assert.equal(page.newest('asks').park, 25);
  page.pass(2000);
  page.newest('asks').end({ code: 'unreachable', message: '' });
  page.pass(1000);
  page.newest('asks').batch({ cursor: 'c0', messages: [] });
  page.pass(1100);
  assert.ok(page.newest('asks').park < 3, String(page.newest('asks').park));
});

/* ---- whose error is it? ---- */

// Answers of a request, and whether the library gives up for good.
for (const [status, body, isFinal] of [
  [400, { error: { code: 'bad_channel' } }, true],
  [400, { error: { code: 'bad_cursor' } }, true],
  [400, { error: { code: 'too_many_channels' } }, true],
  [401, { error: { code: 'unauthorized' } }, true],
  [403, { error: { code: 'forbidden' } }, true],
  [403, { error: { code: 'forbidden_origin' } }, true],
  [413, { error: { code: 'too_large' } }, true],
  [503, { error: { code: 503, message: 'unavailable' } }, false],
  [503, { error: { code: 'unauthorized' } }, false],
  [429, { error: { code: 'rate_limited' } }, false],
  [429, { error: { code: 'bad_request' } }, false],
  [429, 'slow down', false],
  [403, { error: { code: 'blocked_by_policy' } }, false],
  [403, '<h1>Blocked</h1>', false],
  [401, '', false],
  [404, 'default backend - 404', false],
  [200, { error: { code: 'unauthorized' } }, false],
  [200, { error: 'login' }, false],
  [200, '<html>Please log in</html>', false],
  [200, {}, false],
  [200, null, false],
  [200, '', false],
  [204, '', false],
  [302, '', false],
  [502, { error: { code: 'bad_gateway' } }, false]
]) {
  test(`status ${status} with ${JSON.stringify(body)} is ${isFinal ? 'final' : 'tried again'}`, () => {
    const asked = [];
    const page = world({ transports: [], parts: ['long-poll'], Xhr: class {
      constructor() { this.withCredentials = false; }
      open(method, url) { asked.push(this); this.url = url; }
      send() {}
      abort() {}
      setRequestHeader() {}
      getResponseHeader() { return null; }
    } });
    const lt = page.Longtail.connect('', { channels: 'a' });
    const errors = [];
    lt.on('error', error => errors.push(error));
    page.pass(0);
    Object.assign(asked[0], { status, readyState: 4, responseText: typeof body === 'string' ? body : JSON.stringify(body) });
    asked[0].onreadystatechange();
    assert.equal(lt.state, isFinal ? 'closed' : 'waiting');
    assert.equal(errors.length, 1);
    assert.equal(errors[0].status, status);
    page.pass(5000);
    assert.equal(asked.length > 1, !isFinal);
    assert.equal(new Set(asked.map(request => request.url)).size, asked.length, 'no two requests have the same address');
  });
}

/* ---- clocks ---- */

for (const [what, step, performance] of [
  ['an hour back', -3600000, false],
  ['an hour forward', 3600000, false],
  ['an hour back, with a clock that nobody sets', -3600000, true]
]) {
  test(`the clock is set ${what} while a request is under way, and requests still have time`, () => {
    let at = 5;
    const page = connected({}, { ...BATCH, performance: performance ? { now: () => at } : undefined });
    page.step(step);
    at += 40;
    page.links[0].batch({ cursor: 'c1', messages: [] });
    page.pass(0);
    assert.equal(page.links.length, 2);
    page.pass(1500);
    assert.ok(!page.links[1].closed, 'it was given up');
    page.links[1].batch({ cursor: 'c2', messages: [message('c2')] });
    page.pass(0);
    assert.deepEqual(page.of('message').map(m => m.id), ['c2']);
    assert.ok(page.waits().every(wait => wait < 60000), String(page.waits()));
  });
}

/* ---- publishing ---- */

test('no two publications have the same key, also after a reload with the same client id', () => {
  const keys = new Set();
  for (let load = 0; load < 3; load++) {
    const sent = [];
    const page = world({ Xhr: class {
      constructor() { this.withCredentials = false; }
      open(method, url) { sent.push(url); }
      send() {}
    } });
    const lt = page.Longtail.connect('', { channels: 'a', client: 'me' });
    for (let n = 0; n < 3; n++) lt.publish('a', n);
    for (const url of sent) keys.add(new URL(url).searchParams.get('key'));
  }
  assert.equal(keys.size, 9);
});

for (const [data, body] of [[undefined, 'null'], [() => {}, 'null'], [null, 'null'], ['', '""'], [0, '0'], [{ a: undefined }, '{}']]) {
  test(`what is published as ${String(data)} is sent as ${body}, and the callback may come third`, () => {
    const sent = [];
    const page = world({ Xhr: class {
      constructor() { this.withCredentials = false; }
      open() {}
      getResponseHeader() { return null; }
      send(text) { sent.push(text); Object.assign(this, { readyState: 4, status: 200, responseText: '{"messages":[{"id":"7"}]}' }); this.onreadystatechange(); }
    } });
    let told;
    page.Longtail.connect('', { channels: 'a' }).publish('a', data, (error, id) => { told = [error, id]; });
    assert.deepEqual(sent, [body]);
    assert.deepEqual(told, [null, '7']);
  });
}

/* ---- arguments ---- */

test('arguments in wrong forms', () => {
  const { Longtail, pass } = world();
  for (const bad of ['push.example.com', 'localhost:8080', 'ftp://a', 7]) assert.throws(() => Longtail.connect(bad), /Longtail/, String(bad));
  assert.equal(Longtail.connect('//other').url, 'http://other');
  assert.equal(Longtail.connect('/push/').url, 'http://here:80/push');
  assert.equal(Longtail.connect({ channel: 'a' }).channels.join(), 'a');
  assert.throws(() => Longtail.connect('').on('message'), /Longtail/);
  const lt = Longtail.connect('', { channels: 'a' });
  lt.subscribe(['b', 'c']).unsubscribe(['a', 'b']);
  assert.equal(lt.channels.join(), 'c');
  for (const [options, code] of [[{}, 'no_channels'], [{ channels: 'a', transports: ['websocket', 'hand'] }, 'no_transport']]) {
    const errors = [];
    Longtail.connect('', options).on('error', error => errors.push(error.code));
    pass(0);
    assert.deepEqual(errors, [code]);
  }
});

/* ---- what is learned about a path ---- */

test('after an outage the ladder goes back up to the transport whose requests can wait', () => {
  const page = connected({}, { transports: [['asks', { batch: true, parks: true }], ['plain', { batch: true }]] });
  const newest = () => page.links.at(-1);
  for (let n = 0; newest().transport.name === 'asks' && n < 10; n++) {
    newest().end({ code: 'unreachable', message: '' });
    page.pass(20000);
  }
  assert.equal(newest().transport.name, 'plain');
  newest().batch({ cursor: 'c1', messages: [] });
  for (let n = 0; n < 40; n++) {
    page.pass(1000);
    if (!newest().closed && !newest()._waited) newest().batch({ cursor: 'c1', messages: [] });
  }
  assert.equal(page.lt.transport, 'asks');
});

test('a path that cuts each request after a second is not asked to wait', () => {
  const page = climbing({ transports: [['asks', { batch: true, parks: true }]] });
  let cuts = 0;
  for (let n = 0; n < 40; n++) {
    const link = page.newest('asks');
    if (link.park) {
      page.pass(1000);
      if (link.live()) { cuts += 1; link.end({ code: 'unreachable', message: '' }); }
    } else if (!link.closed) {
      link.batch({ cursor: 'c0', messages: [] });
    }
    page.pass(500);
  }
  assert.equal(cuts, 2);
});

test('a browser that is online again forgets what it learned about the path', () => {
  const heard = {};
  const page = climbing({ more: { addEventListener: (name, fn) => { heard[name] = fn; }, removeEventListener() {} } });
  page.newest('fast').end();
  for (let n = 0; !page.newest('held') && n < 20; n++) { page.pass(100); }
  page.newest('held').end();
  assert.ok(page.stored.getItem('longtail http://here:80').includes('fast'));
  const tries = page.named('fast').length;
  heard.online();
  assert.equal(page.named('fast').length, tries + 1);
});

test('after a silent death a stream is asked for more heartbeats', () => {
  const page = climbing();
  const fast = page.newest('fast');
  fast.item(hello('c0'));
  fast.item(beat('c0'));
  page.pass(60000);
  assert.ok(fast.closed);
  page.newest('asks').batch({ cursor: 'c0', messages: [] });
  for (let n = 0; n < 60 && page.newest('fast') === fast; n++) { page.pass(500); }
  assert.match(page.newest('fast').url('/x'), /heartbeat=8/);
});

/* ---- tokens ---- */

test('a token is asked for before the first request, before it expires, and when the server refuses it', () => {
  const asked = [];
  const jwt = seconds => `x.${Buffer.from(JSON.stringify({ iat: 1000, exp: 1000 + seconds })).toString('base64url')}.y`;
  const page = connected({ token: done => { asked.push(done); } }, { lazy: ['token'] });
  assert.equal(page.links.length, 0);
  assert.equal(asked.length, 1);
  asked[0](jwt(100));
  page.pass(1);
  assert.match(page.links[0].url('/x'), /token=x\./);
  page.links[0].item(hello('c0'));
  for (let n = 0; n < 79; n++) { page.pass(1000); page.links[0].item(beat('c1')); }
  assert.equal(asked.length, 1);
  page.pass(2000);
  assert.equal(asked.length, 2);
  asked[1]('second');
  page.pass(1);
  assert.match(page.links.at(-1).url('/x'), /cursor=c1.*token=second/);
  page.links.at(-1).item(hello('c1'));
  page.links.at(-1).item({ type: 'bye', code: 4003, reason: 'expired', cursor: 'c2' });
  assert.equal(asked.length, 3);
  assert.equal(page.lt.state, 'waiting');
  asked[2]('third');
  page.pass(1);
  assert.match(page.links.at(-1).url('/x'), /cursor=c2.*token=third/);
  // If the server refuses a token at once, the library does not ask for tokens again and again.
  page.links.at(-1).end({ code: 'unauthorized', status: 401 });
  assert.equal(page.lt.state, 'closed');
});

/* ---- answers to emit and members ---- */

// A page whose requests to /event and /members get these answers, one after the other, and then the last one again: a
// status, an object, and the headers.
function answered(answers, options, lazy = ['emit', 'members', 'token']) {
  const asked = [];
  const page = connected(options, { lazy, Xhr: class {
    withCredentials = false;
    open(method, url) { this.url = url; }
    setRequestHeader() {}
    getResponseHeader(name) { return this.headers?.[name] ?? null; }
    abort() {}
    send() {
      const [status, body, headers] = answers[Math.min(asked.length, answers.length - 1)];
      asked.push(this.url);
      Object.assign(this, { readyState: 4, status, headers, responseText: JSON.stringify(body) });
      this.onreadystatechange();
    }
  } });
  const said = [];
  return {
    ...page, asked, said,
    emit: () => page.lt.emit('e', 1, (error, answer) => said.push([error && error.code, answer])),
    members: () => page.lt.members('a', (list, change) => said.push([list && list.length, change && change.code]))
  };
}

test('a message waits for the first token, also if the connection reads no channel', () => {
  for (const channels of [['a'], []]) {
    const tokens = [];
    const told = [];
    const page = answered([[200, { messages: [{ id: '5-0.a' }] }]], { channels, token: done => { tokens.push(done); } });
    page.lt.publish('a', 1, (error, id) => told.push([error && error.code, id]));
    page.pass(1000);
    assert.deepEqual([page.asked, tokens.length], [[], 1], String(channels));
    tokens[0]('first');
    page.pass(3000);
    assert.equal(page.asked.length, 1);
    assert.match(page.asked[0], /\/publish\?.*token=first/);
    assert.deepEqual(told, [[null, '5-0.a']]);
  }
  // The wait has an end.
  const told = [];
  const page = answered([[200, {}]], { token: () => {} });
  page.lt.publish('a', 1, error => told.push(error.code));
  page.pass(20000);
  assert.deepEqual([page.asked, told], [[], ['unreachable']]);
});

const own = (status, code, headers) => [status, { error: { code, message: 'm' } }, headers];
const GOOD = { emit: [200, { ack: ['yes'] }], members: [200, { members: [{ id: '7' }], cursor: '1-0.a' }] };
const GOT = { emit: [null, 'yes'], members: [1, undefined] };

for (const method of ['emit', 'members']) {
  test(`${method} repeats what passes, and what does not come from the server`, () => {
    // An answer, and whether the request is repeated after it.
    const cases = [
      [own(503, 'log_unavailable'), true],
      [own(429, 'rate_limited'), true],
      [[503, { error: { code: 503, message: 'upstream' } }], true],
      [[502, { error: { code: 'BAD_GATEWAY' } }], true],
      [[502, 'no JSON object'], true],
      [[200, { login: 'https://portal' }], true],
      [[200, { error: { code: 'nologin' } }], true],
      [[200, null], true],
      [own(403, 'forbidden'), false],
      [own(401, 'unauthorized'), false],
      [own(404, 'not_found'), false],
      ...(method === 'emit' ? [[own(404, 'no_hook'), false], [own(502, 'application_failed'), false]] : [])
    ];
    for (const [answer, isRepeated] of cases) {
      const page = answered([answer, answer, GOOD[method]], { cursor: '0-5.a' });
      page[method]();
      page.pass(15000);
      assert.equal(page.asked.length, isRepeated ? 3 : 1, JSON.stringify(answer));
      const code = answer[1]?.error?.code;
      assert.deepEqual(page.said, [isRepeated ? GOT[method] : method === 'emit' ? [code, undefined] : [null, code]], JSON.stringify(answer));
    }
  });

  test(`${method} waits as long as the server says`, () => {
    const page = answered([own(503, 'not_ready', { 'Retry-After': '20' }), GOOD[method]], { cursor: '0-5.a' });
    page[method]();
    page.pass(19900);
    assert.equal(page.asked.length, 1);
    page.pass(200);
    assert.deepEqual(page.said, [GOT[method]]);
  });

  test(`${method} waits for the first token, and asks for another one if it is refused`, () => {
    const wanted = [];
    const page = answered([own(401, 'unauthorized'), GOOD[method]], { cursor: '0-5.a', token: done => { wanted.push(done); } });
    page[method]();
    page.pass(5000);
    assert.deepEqual(page.asked, []);
    wanted[0]('first');
    page.pass(100);
    assert.match(page.asked[0], /token=first/);
    assert.equal(wanted.length, 2);
    wanted[1]('second');
    page.pass(5000);
    assert.match(page.asked[1], /token=second/);
    assert.deepEqual(page.said, [GOT[method]]);
  });
}

test('a list that is refused is read again when the connection opens again', () => {
  const page = answered([own(403, 'forbidden'), GOOD.members], { cursor: '0-5.a' });
  page.members();
  page.pass(100);
  const link = () => page.links.at(-1);
  link().item(hello('0-5.a'));
  page.pass(100);
  // The opening of the connection came after the refusal.
  assert.deepEqual(page.said, [[null, 'forbidden'], [1, undefined]]);
});

test('a message is not a change of the members, whatever it says', () => {
  const page = answered([GOOD.members], { cursor: '0-5.a' });
  page.members();
  page.pass(100);
  page.links.at(-1).item(hello('0-5.a'));
  page.pass(100);
  const calls = page.said.length;
  const forged = { type: 'member_added', id: '9-0.a', channel: 'a', data: { id: 'forged' } };
  page.links.at(-1).item(message('2-0.a', { event: 'member_added', data: forged }));
  page.links.at(-1).item(message('3-0.a', { event: 'member_removed', data: null }));
  assert.equal(page.said.length, calls);
  page.links.at(-1).item({ ...forged, id: '4-0.a' });
  assert.deepEqual(page.said.at(-1), [2, undefined]);
});
