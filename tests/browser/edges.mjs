// Tests unusual situations of the browser library, in Chromium with a server: memory, gateways, refusals, long lists of
// channels, commands over a WebSocket, tokens.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { LONG, connectedPage, opened, pause, publish, readers, seen, startBrowser, startServer, until } from './support.mjs';

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

// A connected page in a separate browser. `token` answers the library's requests for a token.
async function connected(origin, options, { token } = {}) {
  const context = await browser.newContext();
  if (token) await context.exposeFunction('askToken', token);
  return connectedPage(context, origin, options, { script: origin + '/client.min.js' });
}

const heard = (page, wanted) => until('all came, each once and in order', async () => {
  const got = await seen(page);
  return JSON.stringify(got) === JSON.stringify(wanted) || got;
});

// A gateway in front of the server. `handle.answer(request, response)` may answer a request itself.
async function gateway(handle) {
  const to = new URL(server.base);
  const sockets = new Set();
  const made = http.createServer((request, response) => {
    handle.asked?.(request);
    if (handle.answer?.(request, response)) return;
    request.pipe(http.request({ host: to.hostname, port: to.port, path: request.url, method: request.method, headers: request.headers }, answer => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
      response.on('close', () => answer.destroy());
    }).on('error', () => response.destroy()));
  });
  made.on('connection', socket => { sockets.add(socket); socket.on('close', () => sockets.delete(socket)); });
  made.on('upgrade', (request, socket, head) => {
    handle.asked?.(request);
    const up = http.request({ host: to.hostname, port: to.port, path: request.url, headers: request.headers });
    up.on('upgrade', (answer, other, first) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\n' + Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`).join('') + '\r\n');
      socket.write(first);
      other.pipe(socket).pipe(other);
      socket.on('error', () => other.destroy());
      other.on('error', () => socket.destroy());
    });
    up.on('response', answer => { socket.end(`HTTP/1.1 ${answer.statusCode} No\r\nConnection: close\r\n\r\n`); });
    up.on('error', () => socket.destroy());
    up.end();
  });
  await new Promise(resolve => made.listen(0, '127.0.0.1', resolve));
  const cut = () => { for (const socket of sockets) socket.destroy(); };
  return { base: `http://127.0.0.1:${made.address().port}`, cut, stop: () => { cut(); made.close(); } };
}

// Each case takes half a minute, so the test runs only two of them unless tests/run has --all.
const COUNTED = process.env.LONGTAIL_LONG
  ? ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame', 'long-poll', 'jsonp', 'poll'] : ['ws'];
for (const transport of COUNTED) {
  test(`100,000 messages over ${transport} leave less than 1 MB behind`, LONG, async () => {
    const channel = 'memory-' + transport;
    const page = await connected(server.base, { channels: channel, transports: [transport], interval: 1 });
    await opened(page, transport);
    await page.evaluate(() => { window.count = 0; window.lt.off('message').on('message', () => { window.count += 1; }); });
    const cdp = await page.context().newCDPSession(page);
    const heap = async () => {
      for (let n = 0; n < 3; n++) await cdp.send('HeapProfiler.collectGarbage');
      return (await cdp.send('Runtime.getHeapUsage')).usedSize;
    };
    let sent = 0;
    // Chunks of 1,000 messages. The readers read each chunk before the next one, so no reader falls behind the retained
    // messages.
    const send = async count => {
      for (const end = sent + count; sent < end;) {
        const drafts = Array.from({ length: 1000 }, (_, n) => ({ channel, event: 'e' + (sent + n) % 7, data: { n: sent + n } }));
        const answer = await fetch(server.base + '/publish', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(drafts) });
        assert.equal(answer.status, 200);
        await answer.text();
        sent += 1000;
        await page.waitForFunction(sent => window.count >= sent, sent, { polling: 10 });
      }
    };
    await send(5000);
    const before = await heap();
    await send(100000);
    const more = (await heap()) - before;
    assert.equal(await page.evaluate(() => window.count), 105000);
    console.log(`${transport}: ${more} bytes more after 100,000 messages`);
    assert.ok(more < 1e6, `${more} bytes more`);
    await page.context().close();
  });
}

for (const [what, answer] of [
  ['503 with JSON of its own', [503, 'application/json', '{"error":{"code":503,"message":"unavailable"}}']],
  ['429', [429, 'text/plain', 'slow down']],
  ['a login page', [200, 'text/html', '<h1>Please log in</h1>']],
  ['200 with an error', [200, 'application/json', '{"error":{"code":"unauthorized"}}']]
]) {
  test(`a gateway that answers ${what} for two seconds does not end the connection`, LONG, async () => {
    const handle = {};
    const way = await gateway(handle);
    const page = await connected(way.base, { channels: 'gateway' });
    await opened(page, 'ws');
    handle.answer = (request, response) => {
      response.writeHead(answer[0], { 'Content-Type': answer[1] });
      response.end(answer[2]);
      return true;
    };
    way.cut();
    await pause(2000);
    handle.answer = null;
    way.cut();
    await publish(server.base, 'gateway', what);
    await heard(page, [what]);
    assert.deepEqual(await page.evaluate(() => window.ends), []);
    way.stop();
    await page.context().close();
  });
}

test('a cache that ignores every header is passed: no two batch requests have the same address', LONG, async () => {
  const cached = new Map();
  const handle = {
    answer: (request, response) => {
      if (!/poll/.test(request.url)) return false;
      if (cached.has(request.url)) {
        response.end(cached.get(request.url));
        return true;
      }
      const end = response.end.bind(response);
      response.end = (...args) => end(...args);
      response.on('finish', () => cached.set(request.url, JSON.stringify({ cursor: new URL(request.url, 'http://a').searchParams.get('cursor'), messages: [] })));
      return false;
    }
  };
  const way = await gateway(handle);
  const page = await connected(way.base, { channels: 'cached', transports: ['poll'], interval: 50 });
  await opened(page, 'poll');
  await pause(500);
  await publish(server.base, 'cached', 1);
  await heard(page, [1]);
  way.stop();
  await page.context().close();
});

test('a long list of channels is sent as a form, and read whole', LONG, async () => {
  let longest = 0;
  const forms = [];
  const way = await gateway({ asked: request => {
    if (!/\/(ws|sse)\?/.test(request.url)) longest = Math.max(longest, request.url.length);
    if (request.method === 'POST') forms.push(request.url);
  } });
  const channels = Array.from({ length: 100 }, (_, n) => `${'x'.repeat(90)}-${n}`);
  for (const transport of ['poll', 'long-poll', 'xhr-stream', 'multipart']) {
    const page = await connected(way.base, { channels, transports: [transport], interval: 200 });
    await opened(page, transport);
    await until(`it asks ${transport}`, async () => forms.includes('/' + transport) || forms);
    await publish(server.base, channels[99], transport);
    await heard(page, [transport]);
    await page.context().close();
  }
  assert.ok(longest < 2100, `an address of ${longest} bytes`);
  way.stop();
});

test('over a WebSocket channels are joined and left by commands, without another connection', LONG, async () => {
  const asked = [];
  const way = await gateway({ asked: request => asked.push(request.url) });
  const page = await connected(way.base, { channels: 'one', transports: ['ws'] });
  await opened(page, 'ws');
  await page.waitForFunction(() => performance.getEntriesByName(location.origin + '/stream.js').length > 0);
  await pause(300);
  await page.evaluate(() => window.lt.subscribe(['two', 'three']).unsubscribe('one'));
  await until('the server reads them', async () => {
    const counts = await Promise.all(['one', 'two', 'three'].map(async name => (await readers(server.base, name)).total));
    return counts.join() === '0,1,1' || counts;
  });
  for (const [channel, data] of [['one', 1], ['two', 2], ['three', 3]]) await publish(server.base, channel, data);
  await heard(page, [2, 3]);
  assert.equal(asked.filter(url => url.startsWith('/ws')).length, 1, asked.join('\n'));
  // After a cut, the connection reads all channels again.
  way.cut();
  await publish(server.base, 'two', 4);
  await heard(page, [2, 3, 4]);
  way.stop();
  await page.context().close();
});

test('where a proxy forbids POST, the library publishes over the WebSocket', LONG, async () => {
  const way = await gateway({ answer: (request, response) => {
    if (request.method !== 'POST') return false;
    response.writeHead(405, { 'Content-Type': 'text/html' });
    response.end('<h1>Not allowed</h1>');
    return true;
  } });
  const page = await connected(way.base, { channels: 'posted' });
  await opened(page, 'ws');
  await page.waitForFunction(() => performance.getEntriesByName(location.origin + '/stream.js').length > 0);
  const told = await page.evaluate(() => new Promise(resolve => window.lt.publish('posted', { a: 1 }, (error, id) => resolve([error, id]))));
  assert.equal(told[0], null, JSON.stringify(told));
  assert.match(told[1], /^\d+-\d+\./);
  await heard(page, [{ a: 1 }]);
  way.stop();
  await page.context().close();
});

const SECRET = 'a secret of at least thirty-two bytes';
function jwt(claims) {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

test('with a WebSocket or an EventSource alone a refusal is told, and is final', LONG, async () => {
  const guarded = await startServer(['--token-secret', SECRET]);
  for (const transport of ['ws', 'sse']) {
    const page = await connected(guarded.base, { channels: 'secret', transports: [transport] });
    await until('it is refused', async () => {
      const told = await page.evaluate(() => [window.lt.state, window.errors.map(error => error.code).join(), window.ends.map(why => why.code).join()]);
      return told.join(' ') === 'closed unauthorized unauthorized' || told;
    });
    await page.context().close();
  }
  guarded.stop();
});

test('tokens are renewed before they expire, and nothing is lost', LONG, async () => {
  const guarded = await startServer(['--token-secret', SECRET]);
  for (const transport of ['ws', 'sse', 'long-poll']) {
    const channel = 'renewed-' + transport;
    let asked = 0;
    const token = () => {
      const at = Math.floor(Date.now() / 1000);
      asked += 1;
      return jwt({ iat: at, exp: at + 4, subscribe: [channel], publish: [channel] });
    };
    const page = await connected(guarded.base, { channels: channel, transports: [transport] }, { token });
    await opened(page, transport);
    const sent = [];
    for (let n = 0; n < 12; n++) {
      const told = await page.evaluate(([channel, n]) => new Promise(resolve => window.lt.publish(channel, n, error => resolve(error))), [channel, n]);
      assert.equal(told, null);
      sent.push(n);
      await pause(1000);
    }
    await heard(page, sent);
    assert.ok(asked > 2 && asked < 12, `${asked} tokens`);
    assert.deepEqual(await page.evaluate(() => window.ends), []);
    await page.context().close();
  }
  guarded.stop();
});

test('in a worker the library needs no window', LONG, async () => {
  const page = await connected(server.base, { channels: [] });
  for (const transport of ['ws', 'sse', 'xhr-stream', 'long-poll', 'poll']) {
    await page.evaluate(([base, transport]) => {
      window.fromWorker = [];
      const code = `importScripts('${base}/client.min.js');
        lt = Longtail.connect('${base}', { channels: 'worker-${transport}', transports: ['${transport}'], interval: 100 });
        lt.on('open', () => lt.publish('worker-${transport}', 'hi'));
        lt.on('error', error => postMessage(error.code + error.message));
        lt.on('message', message => postMessage(message.data));`;
      const worker = new Worker(URL.createObjectURL(new Blob([code])));
      worker.onmessage = event => window.fromWorker.push(event.data);
      worker.onerror = event => window.fromWorker.push(event.message);
    }, [server.base, transport]);
    await until('the worker heard it', async () => {
      const got = await page.evaluate(() => window.fromWorker);
      return got[0] === 'hi' || got;
    });
  }
  await page.context().close();
});
