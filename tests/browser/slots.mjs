// Many tabs of one browser without WebSocket, in Chromium: a browser opens only six connections to a host, but every
// tab must receive messages.
//   node --test slots.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { LONG, connectedPage, lastSeen, opened, pause, publish, readers, startBrowser, startServer, until } from './support.mjs';

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

const tab = (context, options) => connectedPage(context, server.base, { channels: 'c', ...options });

const SELECTIONS = [
  ['all transports but WebSocket', {}],
  ['long polling only', { transports: ['long-poll'] }],
  ['EventSource and polling', { transports: ['sse', 'poll'] }],
  ['XHR streaming and JSONP', { transports: ['xhr-stream', 'jsonp'] }]
];

for (const [what, options] of process.env.LONGTAIL_LONG ? SELECTIONS : SELECTIONS.slice(0, 2)) {
  test(`eight tabs, ${what}: each hears within seconds, and can publish`, LONG, async () => {
    const context = await browser.newContext();
    await context.addInitScript(() => { delete window.WebSocket; });
    const tabs = [];
    for (let n = 0; n < 8; n++) tabs.push(await tab(context, options));
    for (const page of tabs) await opened(page);
    // When all tabs have found their transport.
    await pause(6000);
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
          const [last] = await lastSeen([page]);
          return last === round || last;
        });
        late.push((await page.evaluate(() => window.times.at(-1))) - sent);
      }
    }
    assert.ok(Math.max(...late) < 5000, `ms until each tab had each message: ${late}`);
    // After an outage, all tabs also continue.
    server.child.kill('SIGSTOP');
    await pause(8000);
    server.child.kill('SIGCONT');
    await publish(server.base, 'c', 'afterwards');
    for (const [n, page] of tabs.entries()) {
      await until(`tab ${n} has heard what came after the outage`, async () => {
        const got = await page.evaluate(() => [window.lt.state, window.lt.transport, window.seen.at(-1)]);
        return got[2] === 'afterwards' || got;
      });
    }
    // When tabs close, others take their slots.
    for (const page of tabs.splice(0, 4)) await page.close();
    if (options.transports?.[0] !== 'long-poll') {
      await until('the rest reads by streams', async () => {
        const names = await Promise.all(tabs.map(page => page.evaluate(() => window.lt.transport)));
        return names.every(name => name === 'sse' || name === 'xhr-stream') || [names, await readers(server.base, 'c')];
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
    if (n < 4) await opened(tabs[n], 'sse');
  }
  await until('the fifth says that it waits', async () => (await errors(tabs[4])) === 'no_slot' || errors(tabs[4]));
  assert.match(await tabs[4].evaluate(() => window.errors[0].message), /waits until one of them ends/);
  await publish(server.base, 'only', 'before');
  await tabs[0].close();
  await opened(tabs[4], 'sse');
  await publish(server.base, 'only', 'after');
  await until('it reads', async () => (await lastSeen([tabs[4]])).join() === 'after');
  // This connection gets the error once, and the others do not get it.
  for (const [n, page] of tabs.slice(1).entries()) assert.equal(await errors(page), n === 3 ? 'no_slot' : '', `tab ${n + 1}`);
  await context.close();
});
