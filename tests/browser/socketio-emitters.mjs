// Published emitters of Socket.IO, which PUBLISH in Redis, and published clients on three nodes: each event arrives once.
//   node --test socketio-emitters.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { LONG, startServer, until } from './support.mjs';

const require = createRequire(import.meta.url);
const { Redis } = require('ioredis');
const io = require('socket.io-client-4');
const work = mkdtempSync(join(tmpdir(), 'longtail-emitters-'));
const programs = [];
const pages = [];
let redis, connection;

// A socket of `/` and one of `/ns` on each node. `seen` has the events of both.
async function page(base, rooms) {
  const one = { seen: [], sockets: {} };
  for (const namespace of ['/', '/ns']) {
    const socket = io(base + namespace, { transports: ['websocket'], reconnection: false });
    one.sockets[namespace] = socket;
    socket.on('ev', (...args) => one.seen.push([namespace, ...args.map(arg => (Buffer.isBuffer(arg) ? [...arg] : arg))]));
    await until(`a socket of ${namespace}`, () => socket.connected);
    for (const room of rooms) await socket.emitWithAck('join', room);
  }
  return one;
}

before(async () => {
  redis = await freePort();
  const server = spawn('redis-server', ['--port', redis, '--save', '', '--appendonly', 'no'], { stdio: 'ignore', cwd: work });
  programs.push({ stop: () => server.kill('SIGKILL') });
  const flags = ['--redis', `redis://127.0.0.1:${redis}/`, '--wait-for-log', '--socketio', '--socketio-emitters',
    '--socketio-on', 'join=join', '--socketio-on', '/ns:join=join'];
  const nodes = await Promise.all([0, 1, 2].map(() => startServer(flags)));
  programs.push(...nodes);
  for (const { base } of nodes) {
    await until('the node to write control entries', async () => {
      const text = await fetch(base + '/metrics').then(response => response.text(), () => '');
      return Number(/^longtail_log_format (\d)/m.exec(text)?.[1]) >= 2;
    });
  }
  connection = new Redis(redis);
  const rooms = [['a'], ['b'], ['a', 'b', 'c']];
  for (const [n, { base }] of nodes.entries()) pages.push(await page(base, rooms[n]));
});

after(() => {
  for (const { sockets } of pages) for (const socket of Object.values(sockets)) socket.disconnect();
  connection?.disconnect();
  for (const program of programs) program.stop();
  rmSync(work, { recursive: true, force: true });
});

// The events that each page gets, without their order: each namespace has an order of its own.
async function each(emit, expected) {
  for (const one of pages) one.seen.length = 0;
  await emit();
  const sorted = list => list.map(item => JSON.stringify(item)).sort();
  await until('all events', () => pages.every((one, n) => one.seen.length >= expected[n].length) || pages.map(one => one.seen));
  // What is published now comes after all that was published before.
  await connection.publish('socketio', JSON.stringify({ method: 'emit', event: 'ev', data: ['end'], namespace: '/' }));
  await connection.publish('socketio', JSON.stringify({ method: 'emit', event: 'ev', data: ['end'], namespace: '/ns' }));
  const ends = one => one.seen.filter(item => item[1] === 'end').length;
  await until('the ends', () => pages.every(one => ends(one) === 2));
  for (const [n, one] of pages.entries()) {
    assert.deepEqual(sorted(one.seen.filter(item => item[1] !== 'end')), sorted(expected[n]), `page ${n}`);
  }
}

const emitters = {
  'socket.io-emitter 1.0.0': () => require('socket.io-emitter-1')(connection),
  'socket.io-emitter 2.0.0': () => require('socket.io-emitter-2')(connection),
  'socket.io-emitter 3.2.0': () => require('socket.io-emitter-3')(connection),
  '@socket.io/redis-emitter 5.1.0': () => new (require('@socket.io/redis-emitter').Emitter)(connection),
};
for (const [name, make] of Object.entries(emitters)) {
  test(`events of ${name} arrive once`, LONG, async () => {
    const emitter = make();
    await each(() => {
      emitter.emit('ev', 'all', 'é', { n: 1 });
      emitter.to('a').emit('ev', 'a');
      emitter.in('a').in('b').emit('ev', 'a or b', Buffer.from([1, 2]));
      emitter.of('/ns').to('c').emit('ev', 'c');
    }, [
      [['/', 'all', 'é', { n: 1 }], ['/', 'a'], ['/', 'a or b', [1, 2]]],
      [['/', 'all', 'é', { n: 1 }], ['/', 'a or b', [1, 2]]],
      [['/', 'all', 'é', { n: 1 }], ['/', 'a'], ['/', 'a or b', [1, 2]], ['/ns', 'c']],
    ]);
  });
}

test('commands and exceptions of @socket.io/redis-emitter 5.1.0', LONG, async () => {
  const emitter = emitters['@socket.io/redis-emitter 5.1.0']();
  const id = pages[1].sockets['/'].id;
  await each(() => {
    emitter.except('c').emit('ev', 'not c');
    emitter.to(id).emit('ev', 'one socket');
    emitter.to(['a', id]).except(id).emit('ev', 'a alone');
    emitter.in('a').except('c').socketsJoin(['d', 'e']);
    emitter.in(id).socketsJoin('d');
    emitter.to('d').emit('ev', 'd');
    emitter.in('d').socketsLeave('d');
    emitter.to('d').emit('ev', 'nobody');
  }, [
    [['/', 'not c'], ['/', 'a alone'], ['/', 'd']],
    [['/', 'not c'], ['/', 'one socket'], ['/', 'd']],
    [['/', 'a alone']],
  ]);
});

const isLong = process.env.LONGTAIL_LONG !== undefined;
test('events and commands of python-socketio 5.18.1', { ...LONG, skip: isLong ? false : 'runs with LONGTAIL_LONG' }, async () => {
  const run = promisify(execFile);
  await run('python3', ['-m', 'venv', 'venv'], { cwd: work });
  await run('venv/bin/pip', ['install', '--quiet', 'python-socketio==5.18.1', 'redis==8.1.0'], { cwd: work });
  const id = pages[0].sockets['/'].id;
  const script = `
import socketio, sys
url, sid = sys.argv[1:]
manager = socketio.RedisManager(url, write_only=True)
manager.emit('ev', ('all', 1), namespace='/')
manager.emit('ev', {'to': 'é'}, room='a', namespace='/')
manager.emit('ev', b'\\1\\2', room=['a', 'b'], namespace='/ns')
manager.emit('ev', 'not one', skip_sid=sid, namespace='/')
manager.enter_room(sid, '/', 'd')
manager.emit('ev', 'd', room='d', namespace='/')
manager.close_room('d', '/')
manager.emit('ev', 'nobody', room='d', namespace='/')
manager.emit('ev', 'one', room=sid, namespace='/')
`;
  await each(() => run('venv/bin/python', ['-c', script, `redis://127.0.0.1:${redis}/0`, id], { cwd: work }), [
    [['/', 'all', 1], ['/', { to: 'é' }], ['/ns', [1, 2]], ['/', 'd'], ['/', 'one']],
    [['/', 'all', 1], ['/ns', [1, 2]], ['/', 'not one']],
    [['/', 'all', 1], ['/', { to: 'é' }], ['/ns', [1, 2]], ['/', 'not one']],
  ]);
});

test('a disconnect of an emitter ends the connections', LONG, async () => {
  const emitter = emitters['@socket.io/redis-emitter 5.1.0']();
  emitter.in('c').disconnectSockets(true);
  await until('the connection to end', () => !pages[2].sockets['/'].connected);
  assert.deepEqual(pages.map(one => one.sockets['/'].connected), [true, true, false]);
});
