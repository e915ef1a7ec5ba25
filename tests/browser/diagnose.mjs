// /diagnose in a browser, behind real proxies: its report on a path is true.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer, request } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LONG, SOON, startBrowser, startServer, until } from './support.mjs';
import { freePort } from './ports.mjs';

let server;
let browser;
const dir = mkdtempSync(join(tmpdir(), 'diagnose-'));
const children = [];

before(async () => {
  server = await startServer(['--heartbeat-seconds', '15']);
  browser = await startBrowser();
}, LONG);

after(async () => {
  await browser?.close();
  children.forEach(child => child.kill());
  server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

// Starts a proxy in front of the server and waits until it passes a request.
async function proxy(command, args, port) {
  children.push(spawn(command, args, { stdio: 'ignore' }));
  await until(`${command} to reach the server`, async () => {
    try { return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok; } catch (error) { return error.message; }
  });
  return `http://127.0.0.1:${port}`;
}

async function nginx(settings) {
  const port = await freePort();
  const at = join(dir, String(port));
  const temps = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(kind => `${kind}_temp_path ${at}-${kind};`);
  writeFileSync(at, `daemon off; master_process off; pid ${at}-pid; error_log ${at}-log; events {} http { access_log off;
    ${temps.join('\n')} server { listen 127.0.0.1:${port}; location / { proxy_pass ${server.base}; ${settings} } } }`);
  return proxy('nginx', ['-e', `${at}-log`, '-c', at], port);
}

async function haproxy(settings) {
  const port = await freePort();
  const at = join(dir, String(port));
  writeFileSync(at, `defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout tunnel 60s\n` +
    `frontend web\n bind 127.0.0.1:${port}\n default_backend node\n` +
    `backend node\n ${settings}\n server node ${server.base.replace('http://', '')}\n`);
  return proxy('haproxy', ['-db', '-f', at], port);
}

// A proxy that forwards a response in pieces of this number of bytes, and the rest at the end of the response.
async function gathering(bytes) {
  const gate = createServer((asked, answer) => {
    const upstream = request(server.base + asked.url, { method: asked.method, headers: asked.headers }, response => {
      let held = Buffer.alloc(0);
      answer.writeHead(response.statusCode, response.headers);
      response.on('data', piece => {
        held = Buffer.concat([held, piece]);
        if (held.length >= bytes) {
          answer.write(held);
          held = Buffer.alloc(0);
        }
      });
      response.on('end', () => answer.end(held));
      response.on('error', () => answer.destroy());
    });
    upstream.on('error', () => answer.destroy());
    answer.on('close', () => upstream.destroy());
    asked.pipe(upstream);
  });
  await new Promise(resolve => gate.listen(0, '127.0.0.1', resolve));
  children.push({ kill: () => gate.close() || gate.closeAllConnections() });
  return `http://127.0.0.1:${gate.address().port}`;
}

async function report(base) {
  const page = await browser.newPage();
  await page.goto(base + '/diagnose?now=1');
  await page.waitForFunction(() => document.getElementById('state').textContent === 'Done.', null, { timeout: 3 * SOON });
  const text = await page.inputValue('#report');
  await page.close();
  return text;
}

test('a path without a proxy passes everything', LONG, async () => {
  const text = await report(server.base);
  assert.doesNotMatch(text, /!!/, text);
  assert.match(text, /ok {2}The forever frame works: open in /, text);
});

test('streams that are cut after a second of silence do not work, the forever frame included', LONG, async () => {
  const text = await report(await nginx('proxy_http_version 1.1; proxy_read_timeout 1s;'));
  for (const name of ['EventSource', 'XHR streaming', 'The forever frame']) {
    assert.match(text, new RegExp(`!! {2}${name} opens and is cut`), text);
  }
  assert.match(text, /ok {2}Responses are not held back/, text);
});

test('a delay is not a buffer', LONG, async () => {
  const text = await report(await haproxy(''));
  assert.match(text, /ok {2}Responses are not held back/, text);
  assert.doesNotMatch(text, /!! {2}(Responses|EventSource|XHR|The forever)/, text);
});

test('a buffer is a buffer', LONG, async () => {
  const [some, all] = [await report(await gathering(3000)), await report(await gathering(1e9))];
  // The page counts what comes until it hears of the first bytes: a busy browser hears of them later.
  assert.match(some, /!! {2}Responses are held back until about [3-8] KiB have arrived/, some);
  assert.match(all, /!! {2}Responses are held back until they end/, all);
});
