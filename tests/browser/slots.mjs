// Many tabs of one browser without WebSocket, in Chromium: a browser opens six connections to a host, and no tab may hang.
//   node --test slots.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { LONG, publish, startBrowser, startServer, until } from './support.mjs';

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

async function tab(context, options) {
  const page = await context.newPage();
  await page.goto(server.base + '/healthz');
  await page.addScriptTag({ url: server.base + '/client.js' });
  await page.evaluate(options => {
    window.seen = [];
    window.lt = Longtail.connect('', { channels: 'c', ...options });
    window.errors = [];
    window.lt.on('message', message => window.seen.push([message.data, Date.now()]));
    window.lt.on('error', error => window.errors.push(error));
  }, options);
  return page;
}

const readers = async () => (await (await fetch(`${server.base}/channels/c`)).json()).readers.by_transport;

for (const [what, options] of [
  ['all transports but WebSocket', {}],
  ['long polling only', { transports: ['long-poll'] }],
  ['EventSource and polling', { transports: ['sse', 'poll'] }],
  ['XHR streaming and JSONP', { transports: ['xhr-stream', 'jsonp'] }]
]) {
  test(`eight tabs, ${what}: each hears within seconds, and can publish`, LONG, async () => {
    const context = await browser.newContext();
    await context.addInitScript(() => { delete window.WebSocket; });
    const tabs = [];
    for (let n = 0; n < 8; n++) tabs.push(await tab(context, options));
    for (const [n, page] of tabs.entries()) {
      await until(`tab ${n} is open`, async () => {
        const state = await page.evaluate(() => window.lt.state);
        return state === 'open' || state;
      }, 15000);
    }
    // Once all tabs have settled.
    await new Promise(resolve => setTimeout(resolve, 6000));
    const late = [];
    for (let round = 0; round < 5; round++) {
      const sent = Date.now();
      await tabs[7 - round].evaluate(data => new Promise((resolve, reject) => {
        window.lt.publish('c', data, {}, error => error ? reject(new Error(error.code)) : resolve());
      }), round);
      const took = Date.now() - sent;
      assert.ok(took < 3000, `publishing took ${took} ms`);
      for (const [n, page] of tabs.entries()) {
        await until(`tab ${n} has heard ${round}`, async () => {
          const last = await page.evaluate(() => window.seen.at(-1));
          return (last && last[0] === round) || last;
        }, 10000);
        late.push((await page.evaluate(() => window.seen.at(-1)[1])) - sent);
      }
    }
    assert.ok(Math.max(...late) < 5000, `ms until each tab had each message: ${late}`);
    // After an outage all tabs also continue.
    server.child.kill('SIGSTOP');
    await new Promise(resolve => setTimeout(resolve, 8000));
    server.child.kill('SIGCONT');
    await publish(server.base, 'c', 'afterwards');
    for (const [n, page] of tabs.entries()) {
      await until(`tab ${n} has heard what came after the outage`, async () => {
        const got = await page.evaluate(() => [window.lt.state, window.lt.transport, window.seen.at(-1)[0]]);
        return got[2] === 'afterwards' || got;
      }, 40000);
    }
    // When tabs go away, others take their places.
    for (const page of tabs.splice(0, 4)) await page.close();
    if (options.transports?.[0] !== 'long-poll') {
      await until('the rest reads by streams', async () => {
        const names = await Promise.all(tabs.map(page => page.evaluate(() => window.lt.transport)));
        return names.every(name => name === 'sse' || name === 'xhr-stream') || [names, await readers()];
      });
    }
    await context.close();
  });
}

test('a tab that may use only streams says that it waits, and reads when another tab goes away', LONG, async () => {
  const context = await browser.newContext();
  const tabs = [];
  const errors = page => page.evaluate(() => window.errors.map(error => error.code).join());
  for (let n = 0; n < 5; n++) {
    tabs.push(await tab(context, { channels: 'only', transports: ['sse'] }));
    if (n < 4) await until(`tab ${n} is open`, async () => (await tabs[n].evaluate(() => window.lt.state)) === 'open');
  }
  await until('the fifth says that it waits', async () => (await errors(tabs[4])) === 'no_slot' || errors(tabs[4]));
  assert.match(await tabs[4].evaluate(() => window.errors[0].message), /waits for its turn/);
  await publish(server.base, 'only', 'before');
  await tabs[0].close();
  await until('the fifth is open', async () => (await tabs[4].evaluate(() => window.lt.state)) === 'open');
  await publish(server.base, 'only', 'after');
  await until('it reads', async () => (await tabs[4].evaluate(() => window.seen.at(-1)?.[0])) === 'after');
  // It is told once, and the others are not told.
  for (const [n, page] of tabs.slice(1).entries()) assert.equal(await errors(page), n === 3 ? 'no_slot' : '', `tab ${n + 1}`);
  await context.close();
});
