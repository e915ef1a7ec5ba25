// Tabs that share a connection, in Chromium and in Firefox: each message arrives exactly once, whatever the tabs do.
//   node --test share.mjs
import { test, after } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import {
  LONG, connectedPage, hasReaders, lastSeen, opened, pause, publish, seen, startBrowser, startFirefox, startServer, state, until
} from './support.mjs';

const started = [];

async function server(args = []) {
  const made = await startServer(args);
  started.push(made);
  return made;
}

after(() => started.forEach(one => one.stop()));

const tab = (context, base, options = {}) => connectedPage(context, base, { channels: ['c'], share: true, ...options });

const shares = page => opened(page, 'shared');

// Publishes numbers from `sent` on until all tabs share, then one more, and waits until each tab has it. Returns the
// next.
async function shareAgain(base, tabs, sent) {
  await until('all share', async () => {
    await publish(base, 'c', sent++);
    const states = await Promise.all(tabs.map(state));
    return states.every(is => is === 'open,shared') || states;
  });
  await publish(base, 'c', sent++);
  await haveHeard(tabs, sent - 1);
  return sent;
}

const haveHeard = (tabs, data) => until(`the last message is ${data}`, async () => {
  const last = await lastSeen(tabs);
  return last.every(one => one === data) || last;
});

const numbers = (first, count) => Array.from({ length: count }, (_, n) => first + n);

// Each tab has received each number once, and in order.
async function hasAll(pages, from, count) {
  for (const [n, page] of pages.entries()) {
    const found = await page.evaluate(() => window.seen.filter(data => typeof data === 'number'));
    const missing = numbers(from, count).filter(data => !found.includes(data));
    assert.deepEqual(missing, [], `tab ${n} misses some of ${found}: ${await page.evaluate(() => JSON.stringify([window.lt.transport, window.states, window.errors]))}`);
    assert.deepEqual(found, numbers(from, count), `tab ${n} has them once and in order`);
    assert.equal(await page.evaluate(() => window.gaps), 0);
  }
}

const FIREFOX = ['Firefox', () => startFirefox('light')];
const BROWSERS = [['Chromium', () => startBrowser()], ...(process.env.LONGTAIL_LONG ? [FIREFOX] : [])];

for (const [name, start] of BROWSERS) {
  test(`${name}: a minute of messages with a pause in each tab, and a leader that goes away`, LONG, async () => {
    const { base } = await server();
    const browser = await start();
    try {
      const context = await browser.newContext();
      const tabs = [];
      for (let n = 0; n < 4; n++) tabs.push(await tab(context, base));
      for (const page of tabs) await shares(page);
      const began = Date.now();
      let sent = 0;
      let isSending = true;
      const sending = (async () => {
        while (isSending) {
          await publish(base, 'c', sent++);
          await pause(60);
        }
      })();
      // After a short pause, the tab still finds its position among the entries that it keeps. After a long pause, it
      // does not.
      const plan = [[5, 1, 1], [10, 2, 12], [25, 0, 2], [30, 3, 9]];
      for (const [at, n, seconds] of plan) {
        await pause(at * 1000 - (Date.now() - began));
        await tabs[n].evaluate(() => { window.lt.pause(); });
        await pause(seconds * 1000);
        await tabs[n].evaluate(() => { window.lt.resume(); });
      }
      await pause(42000 - (Date.now() - began));
      // The first tab is the leader. The test closes it while messages arrive.
      await tabs.shift().close();
      await pause(60000 - (Date.now() - began));
      isSending = false;
      await sending;
      await haveHeard(tabs, sent - 1);
      await hasAll(tabs, 0, sent);
      for (const page of tabs) assert.deepEqual(await page.evaluate(() => window.errors), []);
      await hasAll(tabs, 0, await shareAgain(base, tabs, sent));
      await hasReaders(base, 'c', 1);
    } finally {
      await browser.close();
    }
  });
}

async function inChromium(run, args) {
  const { base, child } = await server(args);
  const browser = await startBrowser();
  try {
    await run(await browser.newContext(), base, child);
  } finally {
    await browser.close();
  }
}

test('a quiet group stays open: heartbeats of the leader reach each tab', LONG, () => inChromium(async (context, base) => {
  const tabs = [await tab(context, base), await tab(context, base)];
  for (const page of tabs) await shares(page);
  // The first time limit for silence ends after 15 s. By then, each tab must have restarted its timer.
  await pause(35000);
  for (const page of tabs) {
    assert.deepEqual(await page.evaluate(() => [window.errors, window.states]), [[], ['connecting', 'open']]);
  }
}));

test('the next leader reads the channels of all tabs at once, so no tab goes alone', LONG, () => inChromium(async (context, base) => {
  const tabs = [];
  for (const channels of [['c'], ['c'], ['c', 'd']]) {
    tabs.push(await tab(context, base, { channels }));
    await shares(tabs.at(-1));
  }
  await hasReaders(base, 'd', 1);
  await publish(base, 'c', 0);
  await haveHeard(tabs, 0);
  await tabs.shift().close();
  await until('the next tab leads', () => tabs[0].evaluate(() => performance.getEntriesByName(location.origin + '/lead.js').length > 0));
  await publish(base, 'd', 1);
  await publish(base, 'c', 2);
  await haveHeard(tabs, 2);
  assert.deepEqual(await Promise.all(tabs.map(seen)), [[0, 2], [0, 1, 2]]);
  for (const page of tabs) assert.deepEqual(await page.evaluate(() => window.steps), ['shared']);
}));

test('what comes while all tabs are paused comes afterwards, and nobody reads meanwhile', LONG, () => inChromium(async (context, base) => {
  const tabs = [await tab(context, base), await tab(context, base)];
  for (const page of tabs) await shares(page);
  await publish(base, 'c', 0);
  for (const page of tabs) await page.evaluate(() => { window.lt.pause(); });
  await hasReaders(base, 'c', 0);
  for (let n = 1; n < 10; n++) await publish(base, 'c', n);
  for (const page of tabs) await page.evaluate(() => { window.lt.resume(); });
  await until('all came', async () => {
    const counts = await Promise.all(tabs.map(page => page.evaluate(() => window.seen.length)));
    return counts.every(count => count === 10) || counts;
  });
  await hasAll(tabs, 0, 10);
}));

// Over a WebSocket, the messages of a new channel begin at the moment when the server gets the command; see the next
// test.
test('a channel that a tab joins is read from its cursor on', LONG, () => inChromium(async (context, base) => {
  const transports = ['sse', 'long-poll'];
  const tabs = [await tab(context, base, { transports }), await tab(context, base, { transports })];
  for (const page of tabs) await shares(page);
  let isSending = true;
  let sent = 0;
  const other = (async () => { while (isSending) await publish(base, 'c', 'other'); })();
  await pause(500);
  for (let round = 0; round < 5; round++) {
    await tabs[1].evaluate(channel => { window.lt.subscribe(channel); }, 'd' + round);
    for (let n = 0; n < 20; n++) await publish(base, 'd' + round, sent++);
  }
  isSending = false;
  await other;
  await until('all came', async () => {
    const got = await tabs[1].evaluate(() => window.seen.filter(data => typeof data === 'number').length);
    return got === sent || got;
  });
  await hasAll([tabs[1]], 0, sent);
  assert.equal(await tabs[0].evaluate(() => window.seen.some(data => typeof data === 'number')), false);
}));

// A TCP proxy that can hold back the bytes that clients send to /ws. It forwards all other bytes.
async function slowCommands(base) {
  const held = [];
  const proxy = { isHolding: false, release: () => { proxy.isHolding = false; held.splice(0).forEach(write => write()); } };
  proxy.server = net.createServer(client => {
    const server = net.connect(new URL(base).port, '127.0.0.1');
    let isSocket = null;
    client.on('data', bytes => {
      isSocket ??= bytes.includes('GET /ws');
      if (proxy.isHolding && isSocket) { held.push(() => server.write(bytes)); } else { server.write(bytes); }
    });
    server.on('data', bytes => client.write(bytes));
    for (const [one, other] of [[client, server], [server, client]]) one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  await new Promise(resolve => proxy.server.listen(0, '127.0.0.1', resolve));
  proxy.base = `http://127.0.0.1:${proxy.server.address().port}`;
  return proxy;
}

test('a tab joins a channel at its own position also if the command of the leader arrives late', LONG, async () => {
  const { base } = await server(['--heartbeat-seconds', '30']);
  const proxy = await slowCommands(base);
  const browser = await startBrowser();
  try {
    const context = await browser.newContext();
    const tabs = [await tab(context, proxy.base), await tab(context, proxy.base)];
    for (const page of tabs) await shares(page);
    // The leader has a WebSocket, so it sends commands.
    await publish(base, 'c', 0);
    await haveHeard(tabs, 0);
    await pause(3000);
    await publish(base, 'c', 1);
    await haveHeard(tabs, 1);
    proxy.isHolding = true;
    await tabs[1].evaluate(() => { window.lt.subscribe('d'); });
    await until('it reads alone', async () => /^open,(?!shared)/.test(await state(tabs[1])) || state(tabs[1]));
    // It may follow the leader again, but only from a position after the server has subscribed the leader.
    for (let n = 2; n < 10; n += 2) {
      await publish(base, 'c', n);
      await pause(2000);
      await publish(base, 'd', n + 1);
    }
    proxy.release();
    await publish(base, 'd', 10);
    await haveHeard([tabs[1]], 10);
    await hasAll([tabs[1]], 0, 11);
  } finally {
    await browser.close();
    proxy.server.close();
  }
});

test('what a tab publishes with toSelf: false reaches the others only, also if it is volatile', LONG, () => inChromium(async (context, base) => {
  const tabs = [await tab(context, base), await tab(context, base)];
  for (const page of tabs) await shares(page);
  for (const settings of [{}, { 'volatile': true }]) {
    for (let n = 0; n < 10; n++) {
      await tabs[0].evaluate(([data, settings]) => new Promise(resolve => window.lt.publish('c', data, { toSelf: false, ...settings }, resolve)),
        [{ n, text: 'a "b"\n' }, settings]);
    }
  }
  // The same text from another client is an ordinary message.
  await publish(base, 'c', { n: 0, text: 'a "b"\n' });
  await publish(base, 'c', 'end');
  for (const page of tabs) await until('the end has come', () => page.evaluate(() => window.seen.includes('end')));
  const counts = await Promise.all(tabs.map(page => page.evaluate(() => window.seen.length)));
  assert.deepEqual(counts, [2, 22]);
}));

test('a connection with a cursor or `last` begins there, and then shares', LONG, () => inChromium(async (context, base) => {
  for (let n = 0; n < 5; n++) await publish(base, 'c', n);
  const tabs = [await tab(context, base, { cursor: 'earliest' }), await tab(context, base, { cursor: 'earliest' }), await tab(context, base, { last: 3 })];
  for (const page of tabs) await until('it has begun', () => page.evaluate(() => window.seen.length > 2));
  const sent = await shareAgain(base, tabs, 5);
  await hasAll(tabs.slice(0, 2), 0, sent);
  await hasAll(tabs.slice(2), 2, sent - 2);
  await hasReaders(base, 'c', 1);
}));

test('a channel that is refused closes the connection of its tab only', LONG, () => inChromium(async (context, base) => {
  const tabs = [await tab(context, base), await tab(context, base)];
  for (const page of tabs) await shares(page);
  await publish(base, 'c', 0);
  await tabs[1].evaluate(() => { window.lt.subscribe('not a name'); });
  await until('it is closed', async () => (await state(tabs[1])).startsWith('closed') || state(tabs[1]));
  await hasAll([tabs[0]], 0, await shareAgain(base, [tabs[0]], 1));
}));

test('tabs whose leader has lost the server say so, and go on with it', LONG, () => inChromium(async (context, base, child) => {
  const tabs = [await tab(context, base), await tab(context, base)];
  for (const page of tabs) await shares(page);
  await publish(base, 'c', 0);
  child.kill('SIGSTOP');
  for (const page of tabs) {
    await until('it does not claim to be open', async () => (await state(page)).split(',')[0] !== 'open' || state(page));
  }
  child.kill('SIGCONT');
  await hasAll(tabs, 0, await shareAgain(base, tabs, 1));
}));
