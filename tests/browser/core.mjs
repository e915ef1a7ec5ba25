// The core of the browser library, without a browser: run in an engine that lacks what old ones lacked, with a
// transport that the tests move by hand.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import vm from 'node:vm';

const source = readFileSync(new URL('../../static/client/core.js', import.meta.url), 'utf8');

// A page's world, with a clock that stands still until it is moved.
function world({ json = true } = {}) {
  let now = 1000;
  let timers = [];
  const sandbox = { location: { protocol: 'http:', host: 'here:80' } };
  sandbox.window = sandbox;
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
  const links = [];
  sandbox.Longtail.transports.push({
    name: 'hand',
    path: '/hand',
    heard: true,
    usable: () => true,
    open: link => {
      link.request();
      links.push(link);
      return link;
    },
    close: link => { link.closed = true; }
  });
  // Runs what falls due, in its order.
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
  return { Longtail: sandbox.Longtail, links, pass, waits: () => timers.map(timer => timer.at - now) };
}

function connected(options) {
  const page = world();
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
  assert.equal(links[0].url('x=1'), '/hand?channel=a%2Fb%2Cc%3Dd&cursor=latest&client=me&token=t%26&x=1');
});

test('the cursor follows whatever carries one, and a message that comes again is dropped', () => {
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

test('named events go to their listeners, and the names of the library stay its own', () => {
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

test('it comes back after a bye when it was told to, from the cursor of the bye', () => {
  const { links, pass } = connected();
  links[0].item({ type: 'hello', cursor: 'c0', heartbeat: 15 });
  links[0].item({ type: 'bye', code: 4000, reason: 'rollover', retry: 700, cursor: 'c5' });
  assert.ok(links[0].closed);
  pass(699);
  assert.equal(links.length, 1);
  pass(1);
  assert.equal(links.length, 2);
  assert.match(links[1].url(), /cursor=c5/);
  links[0].item(message('late'));
  links[0].end();
  assert.equal(links.length, 2);
});

test('a bye without a time is final, and so is a refusal that will not pass', () => {
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

test('it backs off, further each time and never by the same', () => {
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

test('silence is taken for death', () => {
  const { links, pass } = connected();
  pass(15001);
  assert.ok(links[0].closed, 'no hello');
  pass(30000);
  const link = links.at(-1);
  link.item({ type: 'hello', cursor: 'c0', heartbeat: 10 });
  pass(24999);
  link.item({ type: 'heartbeat', cursor: 'c1' });
  pass(24999);
  assert.ok(!link.closed);
  pass(2);
  assert.ok(link.closed, 'no heartbeat');
});

test('batches: messages, then the cursor, then the next request', () => {
  const { lt, links, pass, of } = connected();
  links[0].batch({ gap: { from: 'old' }, cursor: 'c7', messages: [message('c1'), message('c2')] }, 50);
  assert.equal(lt.cursor, 'c7');
  assert.equal(of('gap')[0].from, 'old');
  assert.equal(of('message').length, 2);
  pass(49);
  assert.equal(lt.stats.requests, 1);
  pass(1);
  assert.equal(lt.stats.requests, 2);
  assert.match(links[0].url(), /cursor=c7/);
});

test('a listener that closes in the middle of a batch gets no more of it', () => {
  const { lt, links, pass, of } = connected();
  lt.on('message', () => lt.close());
  links[0].batch({ cursor: 'c7', messages: [message('c1'), message('c2')] }, 0);
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
  assert.match(links[1].url(), /cursor=c1/);
  lt.subscribe('c');
  assert.match(links[2].url(), /channel=a%2Cb%2Cc&cursor=c1/);
  lt.unsubscribe('a');
  assert.match(links[3].url(), /channel=b%2Cc&cursor=c1/);
  lt.use(['nothing']);
  assert.equal(lt.state, 'closed');
});
