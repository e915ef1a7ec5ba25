// Sessions in Chromium, on every transport: what the application sends to a page, makes it read, and asks it.
//   node --test session.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { LONG, kill, libraryPage, listen, opened, publish, startBrowser, startServer, until } from './support.mjs';

const TRANSPORTS = ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame', 'long-poll', 'jsonp', 'poll'];

let application;
let server;
let browser;
// The calls that the application got. A page is told apart by its client id.
let calls = [];
const of = (client, type) => calls.filter(call => call.client === client && call.type === type);

// What the application answers: like a script of PHP, it knows only the call.
const RULES = {
  connect: call => {
    if (call.client.startsWith('stranger')) return { refuse: { message: 'Sign in first.', data: { to: '/login' } } };
    return {
      user: { id: call.client, info: { name: call.client } }, data: { n: 1 },
      join: [`room:${call.client}`], send: [{ event: 'welcome', args: [call.client, 1] }]
    };
  },
  event: call => ({
    ask: { ack: ['asked'], send: [{ event: 'question', data: 'More?', ack: 'q1' }] },
    leave: { ack: [true], leave: [`room:${call.client}`] },
    kick: { disconnect: true, send: [{ event: 'message', data: 'goodbye' }] },
    who: { ack: [call.user.id, call.data, call.channels] }
  })[call.event],
  ack: call => ({ send: [{ event: 'thanks', args: call.args }] }),
  disconnect: () => ({})
};

before(async () => {
  application = http.createServer((request, response) => {
    let text = '';
    request.on('data', part => { text += part; });
    request.on('end', () => {
      const call = JSON.parse(text);
      calls.push(call);
      response.end(JSON.stringify(RULES[call.type](call)));
    });
  });
  await new Promise(resolve => { application.listen(0, '127.0.0.1', resolve); });
  server = await startServer(hook());
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
  application?.close();
});

const hook = () => ['--hook-url', `http://127.0.0.1:${application.address().port}/hook.php`, '--hook-timeout', '20',
  '--hook-notify', 'connect,event,ack,disconnect'];

// A page with a session.
async function connected(client, options, base = server.base) {
  const page = await libraryPage(await browser.newContext(), base);
  await listen(page, { channels: `own:${client}`, client, session: true, interval: 200, ...options });
  await page.evaluate(() => {
    window.lt.on('question', (data, message) => { message.ack('yes', data); });
    window.ask = (event, data) => new Promise(resolve => { window.lt.emit(event, data, (...answer) => resolve(answer)); });
  });
  return page;
}

const gets = (page, name, data) => until(`the page has ${name} ${JSON.stringify(data)}`, async () => {
  const got = await page.evaluate(() => window.got);
  return got.filter(one => JSON.stringify(one) === JSON.stringify([name, data])).length === 1 || [got, await page.evaluate(() => [window.lt.state, window.errors])];
});

const ask = (page, event, data) => page.evaluate(([event, data]) => window.ask(event, data), [event, data]);

const ends = (page, code) => until(`it is closed with ${code}`, async () => {
  const said = await page.evaluate(() => [window.lt.state, window.ends.map(why => why.code)]);
  return JSON.stringify(said) === JSON.stringify(['closed', [code]]) || [said, await page.evaluate(() => window.errors)];
});

for (const transport of TRANSPORTS) {
  test(`a session over ${transport}`, LONG, async () => {
    const client = `c-${transport}`;
    const page = await connected(client, { transports: [transport] });
    await opened(page, transport);
    await gets(page, 'welcome', [client, 1]);
    // What the application has joined is read, and it knows who asks.
    await publish(server.base, `room:${client}`, 'in the room');
    await gets(page, `room:${client}`, 'in the room');
    assert.deepEqual(await ask(page, 'who'), [null, client, { n: 1 }, [`own:${client}`, `room:${client}`]]);
    // It asks the page, and the answer of the page's function comes back.
    assert.deepEqual(await ask(page, 'ask'), [null, 'asked']);
    await gets(page, 'question', 'More?');
    await gets(page, 'thanks', ['yes', 'More?']);
    assert.deepEqual(of(client, 'ack').map(call => [call.ref, call.args]), [['q1', ['yes', 'More?']]]);
    // The room is left at its place: what comes after it does not arrive.
    assert.deepEqual(await ask(page, 'leave'), [null, true]);
    await publish(server.base, `room:${client}`, 'after the leave');
    await publish(server.base, `own:${client}`, 'own');
    await gets(page, `own:${client}`, 'own');
    // All of this was one session, on whatever requests.
    assert.equal(new Set(calls.filter(call => call.client === client).map(call => call.session)).size, 1);
    assert.equal(await page.evaluate(() => window.lt.session), calls.at(-1).session);
    await ask(page, 'kick');
    await ends(page, 'session_ended');
    await gets(page, 'message', 'goodbye');
    assert.ok(!(await page.evaluate(() => window.got)).some(one => one[1] === 'after the leave'));
    assert.match(await page.evaluate(() => window.ends[0].reason), /the application has ended the session/);
    await until('the application is told', () => of(client, 'disconnect').map(call => call.reason).join() === 'disconnected' || calls.slice(-3));
    assert.equal(of(client, 'connect').length, 1);
    await page.context().close();
  });
}

test('the session climbs the ladder, and events before the first answer wait for it', LONG, async () => {
  const page = await connected('climber', {});
  const answer = await ask(page, 'who');
  assert.deepEqual(answer.slice(0, 3), [null, 'climber', { n: 1 }]);
  await opened(page, 'ws');
  assert.deepEqual(await ask(page, 'ask'), [null, 'asked']);
  await gets(page, 'thanks', ['yes', 'More?']);
  await page.evaluate(() => { window.lt.use('sse'); });
  await opened(page, 'sse');
  await publish(server.base, 'room:climber', 'still here');
  await gets(page, 'room:climber', 'still here');
  assert.equal(of('climber', 'connect').length, 1);
  await page.context().close();
});

for (const transport of ['ws', 'sse', 'long-poll', 'jsonp']) {
  test(`the application refuses: ${transport}`, LONG, async () => {
    const page = await connected(`stranger-${transport}`, { transports: [transport] });
    await ends(page, 'forbidden');
    const why = await page.evaluate(() => window.ends[0]);
    assert.equal(why.message, 'Sign in first.');
    assert.deepEqual(why.data, { to: '/login' });
    await page.context().close();
  });
}

test('a session cannot be shared, and the page is told', LONG, async () => {
  const page = await connected('sharer', { share: true });
  await ends(page, 'bad_request');
  assert.match(await page.evaluate(() => window.ends[0].message), /a session cannot be shared/);
  assert.deepEqual(of('sharer', 'connect'), []);
  await page.context().close();
});

test('without session.js the connection waits, and does not read without a session', LONG, async () => {
  const context = await browser.newContext();
  let tries = 0;
  await context.route('**/session.js', route => (++tries < 3 ? route.abort() : route.continue()));
  let early = 0;
  await context.route(/\/(poll|long-poll|ws)\?/, route => { early += tries < 3 ? 1 : 0; return route.continue(); });
  const page = await libraryPage(context, server.base);
  await listen(page, { channels: 'own:late', client: 'late', session: true });
  await opened(page);
  assert.deepEqual([tries, early], [3, 0]);
  await until('the application knows it', () => of('late', 'connect').length === 1 || calls.length);
  await context.close();
});

test('a page that was away begins a new session, and gets a gap', LONG, async () => {
  const short = await startServer([...hook(), '--away-seconds', '1']);
  const page = await connected('away', { transports: ['poll'] }, short.base);
  // Before session.js is loaded, `session` is undefined. It is true until the first answer.
  await until('it has a session', () => page.evaluate(() => typeof window.lt.session === 'string'));
  const first = await page.evaluate(() => window.lt.session);
  await page.evaluate(() => { window.lt.pause(); });
  await until('the session is gone', () => of('away', 'disconnect').map(call => call.reason).join() === 'gone' || calls.slice(-3));
  await page.evaluate(() => { window.lt.resume(); });
  await until('it has another session', () => of('away', 'connect').length === 2 || calls.slice(-3));
  await until('one gap', async () => {
    const gaps = await page.evaluate(() => window.gaps);
    return gaps === 1 || gaps;
  });
  await publish(short.base, 'room:away', 'again');
  await gets(page, 'room:away', 'again');
  assert.notEqual(await page.evaluate(() => window.lt.session), first);
  await page.context().close();
  short.stop();
});

test('the list of members has the user that the application names', LONG, async () => {
  const present = await startServer([...hook(), '--presence', 'room:*']);
  const page = await connected('ann', { transports: ['ws'] }, present.base);
  await opened(page, 'ws');
  await page.evaluate(() => {
    window.lt.members('room:ann', members => { window.members = members; });
  });
  await until('she is a member', async () => {
    const members = await page.evaluate(() => window.members);
    return JSON.stringify(members) === '[{"id":"ann","info":{"name":"ann"}}]' || members;
  });
  assert.equal(of('ann', 'connect').length, 1);
  await page.context().close();
  present.stop();
});

// Waits until a node on Redis writes changes of sessions: first it has to know all nodes.
const settled = base => until('the node writes changes of sessions', async () => {
  const text = await (await fetch(base + '/metrics')).text();
  return Number(/^longtail_log_format (\S+)/m.exec(text)?.[1]) >= 2 || 'not yet';
});

for (const transport of ['ws', 'long-poll']) {
  test(`a session goes on over ${transport} on another node after the death of its node`, LONG, async () => {
    const dir = mkdtempSync(join(tmpdir(), 'longtail-session-'));
    const [redisPort, port] = [await freePort(), await freePort()];
    const redis = spawn('redis-server', ['--bind', '127.0.0.1', '--port', String(redisPort), '--save', '', '--dir', dir], { stdio: 'ignore' });
    const flags = [...hook(), '--redis', `redis://127.0.0.1:${redisPort}/`, '--wait-for-log'];
    // The second node is there all the time. The third gets the address of the first, so the page finds it.
    const nodes = [await startServer([...flags, '--listen', `127.0.0.1:${port}`]), await startServer(flags)];
    const client = `mover-${transport}`;
    try {
      for (const node of nodes) await settled(node.base);
      const page = await connected(client, { transports: [transport] }, nodes[0].base);
      await opened(page, transport);
      await publish(nodes[1].base, `room:${client}`, 'before');
      await gets(page, `room:${client}`, 'before');
      await kill(nodes[0]);
      // Both are read by the page when it is back: the log has their places.
      const session = await page.evaluate(() => window.lt.session);
      const body = JSON.stringify({ session, send: [{ event: 'missed', data: 1 }], join: ['more'] });
      const changed = await fetch(`${nodes[1].base}/sessions`, { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
      assert.equal(changed.status, 200, await changed.text());
      await publish(nodes[1].base, 'more', 'in the joined channel');
      nodes[0] = await startServer([...flags, '--listen', `127.0.0.1:${port}`]);
      await gets(page, 'missed', 1);
      await gets(page, 'more', 'in the joined channel');
      await until('it is open again', async () => (await page.evaluate(() => window.lt.state)) === 'open');
      assert.deepEqual(await ask(page, 'ask'), [null, 'asked']);
      await gets(page, 'thanks', ['yes', 'More?']);
      assert.equal(of(client, 'connect').length, 1);
      assert.equal(await page.evaluate(() => window.gaps), 0);
      await page.context().close();
    } finally {
      for (const node of nodes) node.stop();
      redis.kill('SIGTERM');
      rmSync(dir, { recursive: true, force: true });
    }
  });
}
