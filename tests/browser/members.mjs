// Tests lt.members, with which a page sees the members of a channel, in Chromium on every transport that the library
// uses there.
//   node --test members.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { freePort } from './ports.mjs';
import { LONG, libraryPage, listen, opened, pause, startBrowser, startServer, until } from './support.mjs';

const SECRET = 'a-secret-of-the-tests-that-is-long-enough';
const KEY = 'server-key-0123456789abcdef';

const part = value => Buffer.from(value).toString('base64url');

function token(sub, info = null) {
  const claims = { exp: Math.floor(Date.now() / 1000) + 600, subscribe: ['room:*', 'plain'], sub, info };
  const head = `${part('{"alg":"HS256"}')}.${part(JSON.stringify(claims))}`;
  return `${head}.${createHmac('sha256', SECRET).update(head).digest('base64url')}`;
}

let server;
let browser;

before(async () => {
  server = await startServer(['--token-secret', SECRET, '--publish-key', KEY, '--presence', 'room:*', '--retain-messages', '20']);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

async function page(user, options) {
  const page = await libraryPage(await browser.newContext(), server.base);
  await listen(page, { token: token(user, { name: user }), ...options });
  return page;
}

// Watches a channel in a page: records the ids of the members after each call, and the change.
const watch = (page, channel) => page.evaluate(channel => {
  window.calls = [];
  window.lt.members(channel, (members, change) => {
    window.calls.push([members && members.map(member => member.id).sort().join(), change && (change.type || change.code)]);
  });
}, channel);

const lastCall = page => page.evaluate(() => window.calls.at(-1));

const shows = (page, list) => until(`the page shows ${list}`, async () => {
  const last = await lastCall(page);
  return (last && last[0] === list) || await page.evaluate(() => [window.calls, window.lt.state, window.errors]);
});

// A message that looks like a change of the members: that Eve has come, or that Ann has gone.
const publish = async (channel, event) => {
  const id = event === 'member_added' ? 'eve' : 'ann';
  const forged = { type: event, id: '9999999999999-0.a', channel, data: { id } };
  const answer = await fetch(`${server.base}/publish?channel=${channel}&event=${event}`, {
    method: 'POST', headers: { Authorization: `Bearer ${KEY}` }, body: JSON.stringify(forged)
  });
  assert.equal(answer.status, 200);
};

for (const transport of ['ws', 'sse', 'xhr-stream', 'long-poll', 'poll']) {
  test(`the list follows who comes and goes: ${transport}`, LONG, async () => {
    const channel = `room:${transport}`;
    const ann = await page('ann', { channels: channel, transports: [transport] });
    await opened(ann, transport);
    await watch(ann, channel);
    await shows(ann, 'ann');
    const bob = await page('bob', { channels: channel, transports: ['ws'] });
    await shows(ann, 'ann,bob');
    assert.equal((await lastCall(ann))[1], 'member_added');
    // If a publisher sends an event of that name, this is not a change of members.
    const calls = await ann.evaluate(() => window.calls.length);
    await publish(channel, 'member_removed');
    await publish(channel, 'member_added');
    await until('the messages are there', async () => (await ann.evaluate(() => window.seen.length)) === 2);
    assert.equal(await ann.evaluate(() => window.calls.length), calls);
    await bob.context().close();
    await shows(ann, 'ann');
    assert.equal((await lastCall(ann))[1], 'member_removed');
    await ann.context().close();
  });
}

test('the list follows on a transport whose code is loaded when it is used', LONG, async () => {
  for (const transport of ['jsonp', 'forever-frame']) {
    const channel = `room:${transport}`;
    const ann = await page('ann', { channels: channel, transports: [transport] });
    await watch(ann, channel);
    await opened(ann, transport);
    await shows(ann, 'ann');
    const bob = await page('bob', { channels: channel, transports: ['ws'] });
    await shows(ann, 'ann,bob');
    assert.equal((await lastCall(ann))[1], 'member_added', transport);
    await bob.context().close();
    await ann.context().close();
  }
});

test('the list follows in each of the tabs that share, and the others go on sharing', LONG, async () => {
  const context = await browser.newContext();
  const tabs = [];
  // The first tab is the leader and does not call `members`. The second tab calls it before it shares, and the third
  // tab calls it after it has begun to share.
  for (let n = 0; n < 3; n++) {
    const tab = await libraryPage(context, server.base);
    await listen(tab, { channels: 'room:share', share: true, token: token('ann', { name: 'ann' }) });
    if (n === 1) await watch(tab, 'room:share');
    await opened(tab, n === 1 ? undefined : 'shared');
    tabs.push(tab);
  }
  await watch(tabs[2], 'room:share');
  for (const tab of tabs.slice(1)) await shows(tab, 'ann');
  const bob = await page('bob', { channels: 'room:share', transports: ['ws'] });
  for (const tab of tabs.slice(1)) {
    await shows(tab, 'ann,bob');
    assert.equal((await lastCall(tab))[1], 'member_added');
  }
  assert.equal(await tabs[0].evaluate(() => window.lt.transport), 'shared');
  // Each tab gets each message once.
  for (let n = 0; n < 20; n++) await publish('room:share', `n${n}`);
  for (const tab of tabs) {
    await until('20 messages', async () => (await tab.evaluate(() => window.seen.length)) === 20);
  }
  await bob.context().close();
  for (const tab of tabs.slice(1)) await shows(tab, 'ann');
  await context.close();
});

test('the list is fetched again after a gap', LONG, async () => {
  const ann = await page('ann', { channels: 'room:gap' });
  await opened(ann);
  await watch(ann, 'room:gap');
  await shows(ann, 'ann');
  await ann.evaluate(() => { window.lt.pause(); });
  const bob = await page('bob', { channels: 'room:gap' });
  await opened(bob);
  for (let n = 0; n < 40; n++) await publish('room:gap', 'more');
  await ann.evaluate(() => { window.lt.resume(); });
  await until('a gap', async () => (await ann.evaluate(() => window.gaps)) > 0);
  await shows(ann, 'ann,bob');
  await bob.context().close();
  await ann.context().close();
});

test('a reconnect within the grace is no event, and what is refused is told', LONG, async () => {
  const ann = await page('ann', { channels: ['room:again', 'plain'] });
  await opened(ann);
  await watch(ann, 'room:again');
  await shows(ann, 'ann');
  const bob = await page('bob', { channels: 'room:again', transports: ['ws'] });
  await shows(ann, 'ann,bob');
  const calls = await ann.evaluate(() => window.calls.length);
  await bob.evaluate(() => { window.lt.pause(); });
  await pause(2000);
  await bob.evaluate(() => { window.lt.resume(); });
  await pause(8000);
  assert.equal(await ann.evaluate(() => window.calls.length), calls);
  await watch(ann, 'plain');
  await until('the refusal', async () => {
    const last = await lastCall(ann);
    return JSON.stringify(last) === '[null,"not_found"]' || last;
  });
  await bob.context().close();
  await ann.context().close();
});

test('/status lists the members of a channel', LONG, async () => {
  const admin = `127.0.0.1:${await freePort()}`;
  const guarded = await startServer(['--token-secret', SECRET, '--presence', 'room:*', '--admin-listen', admin]);
  try {
    const ann = await libraryPage(await browser.newContext(), guarded.base);
    await listen(ann, { channels: 'room:1', token: token('ann', { n: 7 }) });
    await opened(ann);
    const status = await (await browser.newContext()).newPage();
    await status.goto(`http://${admin}/status`);
    const shown = async (channel, text) => {
      await status.fill('#channel', channel);
      await status.click('#ask button');
      await until(`the page shows ${text}`, async () => {
        const said = await status.innerText('#members');
        return said.includes(text) || said;
      });
    };
    await shown('room:1', 'ann {"n":7}');
    await shown('room:1', '1 in room:1');
    await shown('room:2', '0 in room:2');
    await shown('plain', 'the members of this channel are not known');
    await ann.context().close();
    await status.context().close();
  } finally {
    guarded.stop();
  }
});
