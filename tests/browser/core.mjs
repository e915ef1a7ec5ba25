// Tests the core of the browser library without a browser: in an engine without the features that old browsers lacked,
// with a transport that the tests move by hand.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import vm from 'node:vm';
import { BARE, joined, read } from './parts.mjs';

const source = joined(BARE);

function storage() {
  const kept = new Map();
  return { getItem: key => kept.get(key) ?? null, setItem: (key, value) => { kept.set(key, String(value)); } };
}

// The globals of a page, with a clock that stands still until a test moves it.
function world({ json = true, transports = [['hand']], stored } = {}) {
  let now = 1000;
  let timers = [];
  const sandbox = { location: { protocol: 'http:', host: 'here:80' }, XMLHttpRequest: function () {} };
  sandbox.window = sandbox;
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
  vm.runInContext(source, sandbox);
  if (!json) vm.runInContext(read('legacy'), sandbox);
  const links = [];
  // A transport that is moved by hand: each time the core opens it, the link is added to `links`.
  const hand = (name, more) => sandbox.Longtail.transports.push({
    name,
    usable: () => true,
    open: link => {
      link.request();
      links.push(link);
      link.closed = false;
      return link;
    },
    close: link => { link.closed = true; },
    ...more
  });
  for (const transport of transports) hand(...transport);
  // Moves the clock, and runs the timers that fall due, in their order.
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
  return { Longtail: sandbox.Longtail, links, pass, stored: sandbox.localStorage, waits: () => timers.map(timer => timer.at - now) };
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
  assert.equal(links[0].url('/hand', 'x=1'), '/hand?channel=a%2Fb%2Cc%3Dd&cursor=latest&client=me&token=t%26&probe=1&x=1');
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
  // A connection that the page has paused stays paused, whatever channel is added.
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
  // The core tries the best transport again after some seconds, beside a request that waits, since it does not take a
  // connection.
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
  const { lt, pass, newest, of, named } = climbing();
  const fast = newest('fast');
  fast.item(hello('c0'));
  fast.item(beat('c0'));
  for (let n = 1; n <= 10; n++) { pass(100); fast.item(message('c' + n)); }
  const asked = named('asks').length;
  const untilAsked = count => {
    for (let n = 0; n < 30 && named('asks').length < count; n++) pass(500);
    assert.equal(named('asks').length, count);
  };
  untilAsked(asked + 1);
  newest('asks').batch({ cursor: 'c10', messages: [] });
  assert.equal(lt.transport, 'fast', 'it is quiet, that is all');
  untilAsked(asked + 2);
  newest('asks').batch({ cursor: 'c11', messages: [message('c11')] });
  assert.equal(lt.transport, 'fast');
  pass(1001);
  assert.ok(fast.closed, 'it holds something back');
  pass(1001);
  assert.equal(newest('asks').cursor, 'c10');
  newest('asks').batch({ cursor: 'c11', messages: [message('c11')] });
  assert.equal(of('message').at(-1).id, 'c11');
  assert.equal(lt.transport, 'asks');
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
