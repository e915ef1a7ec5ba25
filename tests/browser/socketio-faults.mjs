// Socket.IO pages that poll while nodes are killed: three nodes behind haproxy, which gives each request to another node
// and repeats a request whose node has died.
//   node --test socketio-faults.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { LONG, kill, pause, startServer, until } from './support.mjs';

const require = createRequire(import.meta.url);
const work = mkdtempSync(join(tmpdir(), 'longtail-socketio-'));
const children = [];
const nodes = [];
let application, base, start;

function run(command, args) {
  const child = spawn(command, args, { stdio: 'ignore', cwd: work });
  child.on('error', error => { throw error; });
  children.push(child);
}

const answers = url => until(`${url} to answer`, () => fetch(url).then(response => response.ok || response.status, error => error.message));

before(async () => {
  application = createServer((request, response) => {
    let body = '';
    request.on('data', part => { body += part; });
    request.on('end', () => {
      const call = JSON.parse(body);
      response.end(JSON.stringify(call.event === 'echo' ? { ack: call.args } : {}));
    });
  });
  await new Promise(resolve => application.listen(0, '127.0.0.1', resolve));
  const redis = await freePort();
  run('redis-server', ['--port', redis, '--save', '', '--appendonly', 'no']);
  const flags = ['--redis', `redis://127.0.0.1:${redis}/`, '--wait-for-log', '--socketio', '--socketio-join', 'todo', '--hook-notify', 'event',
    '--hook-timeout', '5', '--socketio-ping-interval', '4', '--hook-url', `http://127.0.0.1:${application.address().port}/`];
  start = port => startServer([...flags, '--listen', `127.0.0.1:${port}`]);
  const ports = [];
  for (let n = 0; n < 3; n++) ports.push(await freePort());
  for (const port of ports) nodes.push({ port, server: await start(port) });
  for (const { server } of nodes) await answers(server.base + '/readyz');
  const front = await freePort();
  const lines = ports.map((port, n) => `  server n${n} 127.0.0.1:${port} check inter 200ms fall 1 rise 1\n`).join('');
  writeFileSync(join(work, 'haproxy.cfg'), `global\n  maxconn 400
defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s
  option redispatch 1\n  retries 4\n  retry-on conn-failure empty-response
frontend web\n  bind 127.0.0.1:${front}\n  default_backend nodes
backend nodes\n  balance roundrobin\n  option http-no-delay\n  option httpchk GET /readyz\n${lines}`);
  run('haproxy', ['-db', '-f', join(work, 'haproxy.cfg')]);
  base = `http://127.0.0.1:${front}`;
  await answers(base + '/readyz');
  for (const { server } of nodes) {
    await until('the node to write control entries', async () => {
      const format = /^longtail_log_format (\d)/m.exec(await (await fetch(server.base + '/metrics')).text());
      return Number(format?.[1]) >= 2 || String(format);
    });
  }
});

after(() => {
  for (const child of [...children, ...nodes.map(node => node.server.child)]) child.kill('SIGKILL');
  application?.close();
  rmSync(work, { recursive: true, force: true });
});

test('pages that poll notice nothing when nodes are killed', LONG, async () => {
  const pages = [4, 3, 2, 1].map(version => {
    const socket = require(`socket.io-client-${version}`)(base, { transports: ['polling'], forceNew: true });
    const page = { version, socket, seen: [], lost: [], acks: 0 };
    socket.on('number', n => page.seen.push(n));
    socket.on('disconnect', reason => page.lost.push(reason));
    return page;
  });
  await until('all pages to be connected', () => pages.every(({ socket }) => socket.connected));
  let isOver = false;
  const killing = (async () => {
    for (let n = 0; !isOver; n = (n + 1) % 3) {
      await pause(3000);
      if (isOver) return;
      await kill(nodes[n].server);
      nodes[n].server = await start(nodes[n].port);
      await answers(nodes[n].server.base + '/readyz');
    }
  })();
  const publish = n => fetch(`${base}/publish?channel=todo&event=number&key=number-${n}`, { method: 'POST', body: String(n) });
  const numbers = [...Array(200).keys()];
  for (const n of numbers) {
    await until(`${n} to be published`, () => publish(n).then(response => response.ok || response.status, error => error.message));
    if (n % 10 === 0) for (const page of pages) page.socket.emit('echo', n, () => { page.acks += 1; });
    await pause(80);
  }
  isOver = true;
  await killing;
  for (const { version, socket } of pages) assert.ok(socket.io.engine.id.length > 100, `version ${version} has a sealed id`);
  for (const page of pages) {
    await until(`all messages and answers of version ${page.version}`, () => (page.seen.length >= 200 && page.acks >= 20) || [page.seen.length, page.acks, page.lost]);
    assert.deepEqual(page.seen, numbers, `version ${page.version}`);
    assert.deepEqual([page.acks, page.lost], [20, []], `version ${page.version}`);
    page.socket.disconnect();
  }
});
