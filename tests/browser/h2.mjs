// HTTP/2 in Chromium: every transport uses one connection, including a WebSocket (RFC 8441).
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listen, opened, seen, startBrowser, startServer, until } from './support.mjs';

const HTTP = ['poll', 'long-poll', 'jsonp', 'forever-frame', 'xhr-stream', 'multipart', 'sse', 'ndjson'];

let dir;
let server;
let browser;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'longtail-h2-'));
  const [cert, key] = ['cert.pem', 'key.pem'].map(name => join(dir, name));
  execFileSync('openssl', ['req', '-x509', '-nodes', '-days', '2', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
    '-keyout', key, '-out', cert, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'], { stdio: 'ignore' });
  server = await startServer(['--tls-cert', cert, '--tls-key', key]);
  browser = await startBrowser(['--ignore-certificate-errors']);
});

after(async () => {
  await browser?.close();
  server?.stop();
  if (dir) rmSync(dir, { recursive: true });
});

// The server also answers this machine without TLS.
const plain = () => server.base.replace('https', 'http');

async function streams(kind) {
  const metrics = await (await fetch(plain() + '/metrics')).text();
  return Number(new RegExp(`longtail_http2_streams_total\\{kind="${kind}"\\} (\\d+)`).exec(metrics)?.[1] ?? 0);
}

async function publish(channel, data) {
  const answer = await fetch(`${plain()}/publish?channel=${channel}`, { method: 'POST', body: JSON.stringify(data) });
  assert.equal(answer.status, 200, `publishing to ${channel}: ${await answer.text()}`);
}

async function open() {
  const context = await browser.newContext();
  const page = await context.newPage();
  const network = await context.newCDPSession(page);
  await network.send('Network.enable');
  await page.goto(server.base + '/healthz');
  return { context, page, network };
}

test('every transport speaks h2, and the message arrives on each', async () => {
  const { context, page, network } = await open();
  const protocols = {};
  network.on('Network.responseReceived', ({ response }) => {
    protocols[new URL(response.url).pathname.slice(1)] = response.protocol;
  });
  const before = await streams('request');
  await page.evaluate(names => {
    window.heard = {};
    for (const name of names) {
      const hear = text => { if (text.includes('"milk"')) window.heard[name] = true; };
      const ask = async cursor => {
        const answer = await fetch(`/${name}?channel=h2&callback=cb&cursor=${cursor}`);
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          hear(text += value);
        }
        const next = /"cursor":"([^"]+)"/.exec(text);
        if (!window.heard[name] && next && /poll|jsonp/.test(name)) setTimeout(ask, 50, next[1]);
      };
      ask('earliest');
    }
    window.source = new EventSource('/sse?channel=h2');
    window.source.onmessage = event => { if (event.data.includes('"milk"')) window.heard.EventSource = true; };
  }, HTTP);
  await until('they are under way', async () => {
    const now = await streams('request');
    return now >= before + 9 || { before, now };
  });
  await publish('h2', { title: 'milk' });
  await until('all have heard it', async () => {
    const heard = await page.evaluate(() => Object.keys(window.heard).length);
    return heard === HTTP.length + 1 || { heard: await page.evaluate(() => window.heard), protocols };
  });
  for (const name of HTTP) assert.equal(protocols[name], 'h2', name);
  await context.close();
});

test('a WebSocket goes over the connection that there is (RFC 8441)', async () => {
  const { context, page, network } = await open();
  const shaken = new Promise(resolve => network.on('Network.webSocketHandshakeResponseReceived', resolve));
  const before = await streams('websocket');
  const heard = page.evaluate(() => new Promise((resolve, reject) => {
    const socket = new WebSocket(location.origin.replace('https', 'wss') + '/ws?channel=ws');
    const seen = [];
    socket.onerror = () => reject(new Error('the WebSocket failed'));
    socket.onmessage = event => {
      const item = JSON.parse(event.data);
      seen.push(item.type ?? item.data);
      if (item.type === 'hello') socket.send('{"type":"publish","channel":"ws","data":{"title":"milk"},"ref":1}');
      if (seen.length === 3) {
        socket.onclose = close => resolve({ seen, code: close.code });
        socket.close(1000);
      }
    };
  }));
  const { seen, code } = await heard;
  assert.equal(seen[0], 'hello');
  assert.deepEqual(seen.slice(1).map(item => JSON.stringify(item)).sort(), ['"ack"', '{"title":"milk"}']);
  assert.equal(code, 1000);
  const { response } = await shaken;
  // The status 101 and Sec-WebSocket-Accept belong to HTTP/1.1.
  assert.equal(response.status, 200);
  assert.equal(Object.keys(response.headers).some(name => name.toLowerCase() === 'sec-websocket-accept'), false);
  assert.equal(await streams('websocket'), before + 1);
  await context.close();
});

test('the library climbs to a WebSocket there', async () => {
  const { context, page } = await open();
  const before = await streams('websocket');
  await page.addScriptTag({ url: '/client.js' });
  await listen(page, { channels: 'ladder' });
  await opened(page, 'ws');
  await publish('ladder', 'milk');
  await until('the message has come', async () => (await seen(page)).at(-1) === 'milk' || seen(page));
  const now = await streams('websocket');
  assert.ok(now > before, `${now} WebSockets, ${before} before`);
  await context.close();
});

test('twenty readers of one page get their messages: the limit of six connections is gone', async () => {
  const { context, page } = await open();
  await page.evaluate(() => {
    window.count = [0, 0];
    for (let n = 0; n < 20; n += 1) {
      const source = new EventSource('/sse?channel=many');
      source.addEventListener('hello', () => { window.count[0] += 1; });
      source.onmessage = () => { window.count[1] += 1; };
    }
  });
  const count = which => page.evaluate(which => window.count[which], which);
  await until('all 20 are open', async () => (await count(0)) === 20 || count(0));
  await publish('many', 1);
  await until('all 20 have it', async () => (await count(1)) === 20 || count(1));
  await context.close();
});
