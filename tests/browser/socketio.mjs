// Published Socket.IO clients against the server, with an application that answers its calls.
//   node --test socketio.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { LONG, SOON, startServer, until } from './support.mjs';

const require = createRequire(import.meta.url);
const clients = { 4: require('socket.io-client-4'), 3: require('socket.io-client-3'), 2: require('socket.io-client-2'), 1: require('socket.io-client-1') };

const work = mkdtempSync(join(tmpdir(), 'longtail-socketio-'));
const programs = [];
const bases = {};
const old = require('socket.io-client-0');
let application;
const calls = [];

function answer(call) {
  calls.push(call);
  if (call.type === 'connect') {
    if (!['/', '/custom'].includes(call.endpoint)) return { refuse: { message: 'Invalid namespace' } };
    return { send: [{ event: 'auth', args: [call.auth ?? {}] }] };
  }
  if (call.event === 'message') return { send: [{ event: 'message-back', args: call.args }] };
  if (call.event === 'message-with-ack') return { ack: call.args };
  if (call.event === 'ask') return { send: [{ event: 'question', args: ['?'], ack: 'the-answer' }] };
  if (call.type === 'ack') return { send: [{ event: 'thanks', args: call.args }] };
  return {};
}

function run(command, args) {
  const child = spawn(command, args, { stdio: 'ignore', cwd: work });
  child.on('error', error => { throw error; });
  programs.push({ stop: () => child.kill('SIGKILL') });
}

async function answers(url) {
  await until(`${url} to answer`, async () => {
    const response = await fetch(url).catch(error => error.message);
    return response.ok || response.status || response;
  });
}

before(async () => {
  application = createServer((request, response) => {
    let body = '';
    request.on('data', part => { body += part; });
    request.on('end', () => response.end(JSON.stringify(answer(JSON.parse(body)))));
  });
  await new Promise(resolve => application.listen(0, '127.0.0.1', resolve));
  const hook = `http://127.0.0.1:${application.address().port}/`;
  // The client of 0.9 for Node says an Origin without a scheme.
  const flags = ['--socketio', '--allow-origin', '*', '--socketio-join', 'todo', '--socketio-on', 'subscribe=join', '--socketio-on', 'shout=broadcast',
    '--hook-url', hook, '--socketio-ping-interval', '2', '--socketio-ping-timeout', '2'];
  const one = await startServer([...flags, '--hook-notify', 'connect,event,ack,disconnect']);
  programs.push(one);
  bases['one node'] = one.base;
  // Three nodes, and a proxy that gives each request to another one.
  const [redis, front] = [await freePort(), await freePort()];
  run('redis-server', ['--port', redis, '--save', '', '--appendonly', 'no']);
  const nodes = [];
  for (let n = 0; n < 3; n++) nodes.push(await startServer([...flags, '--hook-notify', 'connect,event,ack', '--redis', `redis://127.0.0.1:${redis}/`, '--wait-for-log']));
  programs.push(...nodes);
  for (const { base } of nodes) await answers(base + '/readyz');
  const servers = nodes.map(({ base }, n) => `  server n${n} ${base.replace('http://', '')} check inter 200ms fall 1 rise 1\n`).join('');
  writeFileSync(join(work, 'haproxy.cfg'), `global\n  maxconn 400\n
defaults\n  mode http\n  timeout connect 10s\n  timeout check 10s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s
  option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response
frontend web\n  bind 127.0.0.1:${front}\n  default_backend nodes
backend nodes\n  balance roundrobin\n  option http-no-delay\n  option httpchk GET /readyz\n${servers}`);
  run('haproxy', ['-db', '-f', join(work, 'haproxy.cfg')]);
  bases['three nodes'] = `http://127.0.0.1:${front}`;
  await answers(bases['three nodes'] + '/readyz');
  // Over Redis, a node writes control entries when all nodes are known to read them.
  for (const { base } of nodes) {
    await until('the node to write control entries', async () => {
      const format = /^longtail_log_format (\d)/m.exec(await (await fetch(base + '/metrics')).text());
      return Number(format?.[1]) >= 2 || String(format);
    });
  }
});

after(() => {
  for (const program of programs) program.stop();
  application?.close();
  rmSync(work, { recursive: true, force: true });
});

// Waits for a promise, and names what did not come.
function soon(what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what} did not come`)), SOON); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const next = (socket, event) => soon(event, new Promise(resolve => socket.once(event, (...args) => resolve(args))));
const ack = (socket, ...event) => soon(`the answer to ${event[0]}`, new Promise(resolve => socket.emit(...event, (...args) => resolve(args))));
const publish = (base, channel, event, data) =>
  fetch(`${base}/publish?channel=${encodeURIComponent(channel)}&event=${event}`, { method: 'POST', body: JSON.stringify(data) });

const options = transports => ({ transports, forceNew: true, reconnection: false });

const kinds = [['websocket'], ['polling'], ['polling', 'websocket']];
// `tests/run --all` runs every client over every transport. Otherwise there is one cell for each client on three nodes, and
// all cells of the newest one on one node.
const isLong = process.env.LONGTAIL_LONG !== undefined;
const cells = {
  'one node': version => (isLong || version === 4 ? kinds : []),
  'three nodes': version => (isLong ? kinds : [kinds[{ 4: 2, 3: 1, 2: 2, 1: 1 }[version]]]),
};
const wanted = process.env.CLIENT ? [Number(process.env.CLIENT)] : [4, 3, 2, 1];

for (const version of wanted) for (const where of ['one node', 'three nodes']) {
  for (const transports of cells[where](version)) {
    const connect = (path, more) => clients[version](bases[where] + path, { ...options(transports), ...more });

    test(`socket.io-client ${version} over ${transports}, ${where}`, LONG, async () => {
      const socket = connect('/', version > 2 ? { auth: { user: 'é' } } : {});
      const auth = next(socket, 'auth');
      await next(socket, 'connect');
      assert.deepEqual(await auth, [version > 2 ? { user: 'é' } : {}]);
      if (transports.length > 1) await until('the WebSocket', () => socket.io.engine.transport.name === 'websocket' || socket.io.engine.transport.name);
      const back = next(socket, 'message-back');
      socket.emit('message', 1, 'é€😀', { a: [null] }, Buffer.from([1, 2, 3]));
      const [number, text, object, bytes] = await back;
      assert.deepEqual([number, text, object], [1, 'é€😀', { a: [null] }]);
      assert.deepEqual([...new Uint8Array(bytes)], [1, 2, 3]);
      assert.deepEqual(await ack(socket, 'message-with-ack', 1, '2'), [1, '2']);

      const thanks = next(socket, 'thanks');
      socket.once('question', (question, reply) => reply(question, 'answer'));
      socket.emit('ask');
      assert.deepEqual(await thanks, ['?', 'answer']);

      const item = next(socket, 'addItem');
      await publish(bases[where], 'todo', 'addItem', { title: 'milk' });
      assert.deepEqual(await item, [{ title: 'milk' }]);
      assert.deepEqual(await ack(socket, 'subscribe', 'a room'), []);
      const told = next(socket, 'told');
      await publish(bases[where], 'a=20room', 'told', 1);
      assert.deepEqual(await told, [1]);

      const numbers = new Promise(resolve => {
        const seen = [];
        socket.on('number', n => { if (seen.push(n) === 300) resolve(seen); });
      });
      for (let n = 0; n < 300; n++) await publish(bases[where], 'todo', 'number', n);
      assert.deepEqual(await soon('300 numbers', numbers), [...Array(300).keys()]);

      // Longer than the interval and the time limit of pings.
      const gone = new Promise(resolve => socket.once('disconnect', resolve));
      assert.equal(await Promise.race([gone, new Promise(resolve => setTimeout(resolve, 5000, 'quiet'))]), 'quiet');
      assert.deepEqual(await ack(socket, 'message-with-ack'), []);
      socket.disconnect();
    });

    test(`namespaces of socket.io-client ${version} over ${transports}, ${where}`, LONG, async () => {
      const custom = connect('/custom', { query: { a: 'b' } });
      const other = connect('/custom');
      await Promise.all([next(custom, 'connect'), next(other, 'connect')]);
      // In version 3 of Engine.IO, the main namespace comes first.
      assert.match(custom.id, version > 2 ? /^[\w-]{20}$/ : /^(\/custom#)?[\w-]{20}/);
      const call = calls.findLast(call => call.type === 'connect' && call.endpoint === '/custom' && call.query.a);
      assert.equal(call.query.a, 'b');
      const all = next(custom, 'all');
      await publish(bases[where], '/custom', 'all', 2);
      assert.deepEqual(await all, [2]);
      const random = connect('/random');
      const [error] = await next(random, version > 2 ? 'connect_error' : 'error');
      assert.equal(error.message ?? error, 'Invalid namespace');
      const [shouted, shouting] = [connect('/'), connect('/')];
      await Promise.all([next(shouted, 'connect'), next(shouting, 'connect')]);
      const shout = next(shouted, 'shout');
      let heard = false;
      shouting.on('shout', () => { heard = true; });
      shouting.emit('shout', 'hey');
      assert.deepEqual(await shout, ['hey']);
      assert.deepEqual(await ack(shouting, 'message-with-ack'), []);
      assert.ok(!heard, 'the sender does not hear its broadcast');
      for (const socket of [custom, other, random, shouted, shouting]) socket.disconnect();
    });
  }
}

// After the first ping, an application that does not hear of ends makes the ids of clients that poll sealed ones.
test('clients that poll follow sealed ids', LONG, async () => {
  const pages = wanted.map(version => {
    const socket = clients[version](bases['three nodes'] + '/', options(['polling']));
    const page = { version, socket, seen: [], lost: [], connects: 0 };
    socket.on('connect', () => { page.connects += 1; });
    socket.on('disconnect', reason => page.lost.push(reason));
    socket.on('number', n => page.seen.push(n));
    return page;
  });
  await until('sealed ids', () => pages.every(({ socket }) => socket.io.engine.id?.length > 100) || pages.map(({ socket }) => socket.io.engine.id?.length));
  const first = pages.map(({ socket }) => socket.io.engine.id);
  for (let n = 0; n < 300; n++) await publish(bases['three nodes'], 'todo', 'number', n);
  for (const page of pages) {
    await until('300 numbers', () => page.seen.length >= 300 || page.seen.length);
    assert.deepEqual(page.seen, [...Array(300).keys()], `version ${page.version}`);
    const back = next(page.socket, 'message-back');
    page.socket.emit('message', 'é', Buffer.from([1, 2, 3]));
    assert.deepEqual([...new Uint8Array((await back)[1])], [1, 2, 3]);
    assert.deepEqual(await ack(page.socket, 'message-with-ack', 1, '2'), [1, '2']);
    assert.deepEqual([page.connects, page.lost], [1, []], `version ${page.version}`);
    page.socket.disconnect();
  }
  assert.ok(pages.every(({ socket }, n) => socket.io.engine.id !== first[n]), 'each answer has another id');
});

const oldCells = [['three nodes', 'xhr-polling'], ['one node', 'websocket'], ...(isLong ? [['one node', 'xhr-polling'], ['three nodes', 'websocket']] : [])];
for (const [where, transport] of oldCells) {
  test(`socket.io-client 0.9.17 over ${transport}, ${where}`, LONG, async () => {
    old.transports = [transport];
    const socket = old.connect(bases[where] + '/', { 'force new connection': true, reconnect: false });
    const auth = next(socket, 'auth');
    await next(socket, 'connect');
    assert.deepEqual(await auth, [{}]);
    const back = next(socket, 'message-back');
    socket.send('é€😀');
    assert.deepEqual(await back, ['é€😀']);
    assert.deepEqual(await ack(socket, 'message-with-ack', 1, '2'), [1, '2']);
    const thanks = next(socket, 'thanks');
    socket.once('question', (question, reply) => reply(question, 'answer'));
    socket.emit('ask');
    assert.deepEqual(await thanks, ['?', 'answer']);
    assert.deepEqual(await ack(socket, 'subscribe', 'a room'), []);
    const told = next(socket, 'told');
    await publish(bases[where], 'a=20room', 'told', 1);
    assert.deepEqual(await told, [1]);
    const numbers = new Promise(resolve => {
      const seen = [];
      socket.on('number', n => { if (seen.push(n) === 300) resolve(seen); });
    });
    for (let n = 0; n < 300; n++) await publish(bases[where], 'todo', 'number', n);
    assert.deepEqual(await soon('300 numbers', numbers), [...Array(300).keys()]);
    const gone = new Promise(resolve => socket.once('disconnect', resolve));
    assert.equal(await Promise.race([gone, new Promise(resolve => setTimeout(resolve, 6000, 'quiet'))]), 'quiet');
    const custom = socket.socket.of('/custom');
    const hello = next(custom, 'auth');
    custom.packet({ type: 'connect' });
    assert.deepEqual(await hello, [{}]);
    socket.disconnect();
  });
}
