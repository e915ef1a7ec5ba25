// Published SockJS clients against three nodes behind a proxy that gives each request to another one: in Node, and in a
// page of another origin.
//   node --test sockjs.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { startCluster } from './cluster.mjs';
import { LONG, SOON, publish, startBrowser, until } from './support.mjs';

const require = createRequire(import.meta.url);
const names = { '1.6': 'sockjs-client-1.6', '1.0': 'sockjs-client-1.0' };
const clients = Object.fromEntries(Object.entries(names).map(([version, name]) => [version, require(name)]));
// The package of 1.0 has no bundle for browsers.
const bundle = join(dirname(require.resolve('sockjs-client-1.6/package.json')), 'dist', 'sockjs.min.js');

const COUNT = process.env.LONGTAIL_LONG ? 100 : 8;
let cluster, pages, site;

before(async () => {
  pages = createServer((request, response) => {
    const isScript = request.url === '/sockjs.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? readFileSync(bundle) : '<!doctype html><title>a page</title>');
  });
  await new Promise(resolve => pages.listen(0, '127.0.0.1', resolve));
  site = `http://127.0.0.1:${pages.address().port}`;
  const prefixes = Object.keys(names).flatMap(version =>
    ['--sockjs', `/room-${version}=room-${version} on-message=publish origins=* sockjs-url=${site}/sockjs.js`]);
  cluster = await startCluster(3, prefixes);
}, LONG);

after(() => {
  pages?.close();
  cluster?.stop();
});

// Connects by one transport, sends messages one after the other, and resolves to those that came. This function also runs
// in a page.
function talk({ SockJS, url, transport, count }) {
  return new Promise((resolve, reject) => {
    const socket = new SockJS(url, null, { transports: transport, timeout: 20000 });
    const came = [], next = n => socket.send(`${transport} ${n} "é\u2028"`);
    socket.onopen = () => next(0);
    socket.onmessage = event => {
      if (!event.data.startsWith(transport + ' ')) return;
      came.push(event.data);
      if (came.length < count) return next(came.length);
      const used = socket.transport;
      socket.onclose = null;
      socket.close();
      resolve({ came, used });
    };
    socket.onclose = event => reject(new Error(`closed with ${event.code} ${event.reason} after ${came.length}`));
  });
}

function check(transport, { came, used }) {
  assert.deepEqual(came, Array.from({ length: COUNT }, (_, n) => `${transport} ${n} "é\u2028"`));
  assert.equal(used, transport);
}

for (const version of Object.keys(names)) {
  const transports = version === '1.6' ? ['websocket', 'xhr-streaming', 'xhr-polling'] : ['websocket', 'xhr-polling'];
  test(`sockjs-client ${version} in Node`, LONG, async () => {
    const url = `${cluster.base}/room-${version}`;
    for (const transport of transports) check(transport, await talk({ SockJS: clients[version], url, transport, count: COUNT }));
  });
}

test('sockjs-client 1.6 in a page of another origin', LONG, async () => {
  const browser = await startBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(site);
    await page.addScriptTag({ url: `${site}/sockjs.js` });
    await page.addScriptTag({ content: talk.toString() });
    for (const transport of ['websocket', 'xhr-streaming', 'eventsource', 'iframe-eventsource', 'iframe-htmlfile', 'xhr-polling', 'iframe-xhr-polling', 'jsonp-polling']) {
      const heard = await page.evaluate(options => talk({ SockJS, ...options }).catch(error => ({ error: `${error}` })),
        { url: `${cluster.base}/room-1.6`, transport, count: COUNT });
      assert.ok(!heard.error, `${transport}: ${heard.error}`);
      check(transport, heard);
    }
  } finally {
    await browser.close();
  }
});

test('a node ends between two polls, and the session goes on', LONG, async () => {
  const socket = new clients['1.6'](`${cluster.base}/room-1.6`, null, { transports: 'xhr-polling' });
  const came = [];
  socket.onmessage = event => came.push(event.data);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onclose = event => reject(new Error(`closed with ${event.code}`));
  });
  let closed;
  socket.onclose = event => { closed = event.code; };
  for (let n = 0; n < 12; n++) {
    if (n === 6) {
      cluster.nodes[0].child.kill('SIGTERM');
      await new Promise(resolve => cluster.nodes[0].child.on('exit', resolve));
    }
    await publish(cluster.nodes[1].base, 'room-1.6', n);
    await until('the message to come', () => came.length === n + 1 || came, SOON);
  }
  assert.deepEqual([came, closed], [Array.from({ length: 12 }, (_, n) => String(n)), undefined]);
  socket.close();
});
