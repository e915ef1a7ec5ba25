// The library as a module, twice on a page, under Trusted Types, and on a page that is still being loaded. In Chromium.
//   node --test module.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { PARTS, joined } from './parts.mjs';
import { LONG, SOON, pause, publish, startBrowser, startServer, until } from './support.mjs';
import { startFront } from './front.mjs';

let server;
let browser;
let front;

const MODULE = joined(PARTS) + '\nexport default Longtail; export const { connect, newClientId, version } = Longtail;';
// Connects, and keeps the messages in an array.
const CONNECT = `function read(connect, channel, options) {
  var lt = connect('', Object.assign({ channels: [channel] }, options));
  lt.got = [];
  lt.on('message', function (message) { lt.got.push(message.channel + ' ' + message.data); });
  return lt;
}`;
const page = (body, headers = {}) => [headers, `<!DOCTYPE html><body><script>
  loaded = 0; addEventListener('load', function () { loaded = Math.round(performance.now()); });
  ${CONNECT}</script>${body}`];
const classic = (code, headers) => page(`<script src="/client.js"></script><script>${code}</script>`, headers);
const imported = code => page(`<script type="module">import { connect } from '/longtail.mjs'; ${code}</script>`);

// The page does not have XMLHttpRequest or JSON, so the library loads legacy.js.
const OLD = `<script>for (const name of ['XMLHttpRequest', 'WebSocket', 'EventSource']) delete window[name];</script>`;
const TYPES = { 'Content-Security-Policy': "require-trusted-types-for 'script'" };
const NO_POLICY = { 'Content-Security-Policy': "require-trusted-types-for 'script'; trusted-types 'none'" };

const PAGES = {
  '/longtail.mjs': [{}, MODULE],
  '/module/jsonp': imported(`window.lt = read(connect, 'a', { transports: 'jsonp' });`),
  '/module/forever-frame': imported(`window.lt = read(connect, 'a', { transports: 'forever-frame' });`),
  '/module/share': imported(`window.lt = read(connect, 'a', { share: true });`),
  '/module/diagnose': imported(`window.lt = read(connect, 'a', {}); lt.diagnose(report => { window.said = report.text; });`),
  '/module/legacy': page(OLD + `<script type="module">import { connect } from '/longtail.mjs';
    window.lt = read(connect, 'a', {}); lt.on('open', () => lt.publish('a', 'form'));</script>`),
  '/twice/forever-frame': page(`<script src="/client.js"></script><script>a = read(Longtail.connect, 'a', { transports: 'forever-frame' })</script>
    <script src="/client.js"></script><script>b = read(Longtail.connect, 'b', { transports: 'forever-frame' })</script>`),
  '/twice/jsonp': page(`<script src="/client.js"></script><script>a = read(Longtail.connect, 'a', { transports: 'jsonp' })</script>
    <script src="/client.js"></script><script>b = read(Longtail.connect, 'b', { transports: 'jsonp' })</script>`),
  '/twice/share': page(`<script src="/client.js"></script><script>a = read(Longtail.connect, 'a', { share: true })</script>
    <script src="/client.js"></script><script>b = read(Longtail.connect, 'b', { share: true })</script>`),
  '/types/share': classic(`lt = read(Longtail.connect, 'a', { share: true })`, TYPES),
  '/types/jsonp': classic(`lt = read(Longtail.connect, 'a', { transports: 'jsonp' })`, TYPES),
  '/types/diagnose': classic(`lt = read(Longtail.connect, 'a', {}); lt.diagnose(function (report) { said = report.text; });`, TYPES),
  '/types/none/share': classic(`lt = read(Longtail.connect, 'a', { share: true })`, NO_POLICY),
  '/types/none/diagnose': classic(`lt = read(Longtail.connect, 'a', {}); lt.diagnose(function (report) { said = report.text; });`, NO_POLICY),
  '/load/jsonp': classic(`lt = read(Longtail.connect, 'a', { transports: 'jsonp' })`),
  '/load/forever-frame': classic(`lt = read(Longtail.connect, 'a', { transports: 'forever-frame' })`),
  '/load/xhr-stream': classic(`lt = read(Longtail.connect, 'a', { transports: 'xhr-stream' })`),
  '/load/head': [{}, `<!DOCTYPE html><head><script>${CONNECT}</script><script src="/client.js"></script><script>
    lt = read(Longtail.connect, 'a', { transports: 'forever-frame' });</script></head><body>`]
};

before(async () => {
  server = await startServer();
  front = await startFront(server.base, PAGES);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  front?.stop();
  server?.stop();
});

async function open(path) {
  const context = await browser.newContext();
  const made = await context.newPage();
  const faults = [];
  made.on('pageerror', error => faults.push(error.message));
  await made.goto(front.base + path, { waitUntil: 'commit' });
  return { made, faults, close: () => context.close() };
}

const isOpen = (made, name = 'lt') => until(`${name} is open`, async () => {
  const state = await made.evaluate(name => window[name]?.state, name);
  return state === 'open' || state;
});

// Publishes to a and b in turn, and waits until each connection has exactly its own messages.
async function hears(made, names) {
  const texts = ['1', '2'];
  for (const text of texts) {
    for (const channel of ['a', 'b']) await publish(server.base, channel, text);
  }
  for (const [name, channel] of names) {
    await until(`${name} has its messages`, async () => {
      const got = await made.evaluate(name => window[name].got, name);
      return got.join() === texts.map(text => `${channel} ${text}`).join() || got;
    });
  }
}

for (const path of Object.keys(PAGES).filter(one => /^\/(module|types)\/.*(jsonp|forever-frame|share)$/.test(one))) {
  test(`${path}: it reads`, LONG, async () => {
    const { made, faults, close } = await open(path);
    await isOpen(made);
    await hears(made, [['lt', 'a']]);
    assert.deepEqual(faults, []);
    assert.equal(await made.evaluate(() => typeof Longtail), path.startsWith('/module') ? 'undefined' : 'object');
    await close();
  });
}

for (const [path, works] of [['/module/diagnose', true], ['/types/diagnose', true], ['/types/none/diagnose', false]]) {
  test(`${path}: it answers`, LONG, async () => {
    const { made, faults, close } = await open(path);
    await made.waitForFunction(() => window.said, null, { timeout: 2 * SOON });
    const said = await made.evaluate(() => window.said);
    if (works) assert.match(said, /WebSocket/);
    else assert.match(said, /no answer/);
    assert.deepEqual(faults, []);
    await close();
  });
}

test('/module/legacy: it publishes by a form and reads by script elements', LONG, async () => {
  const { made, faults, close } = await open('/module/legacy');
  await isOpen(made);
  await until('its own message came', async () => {
    const got = await made.evaluate(() => window.lt.got.join());
    return got === 'a form' || got;
  });
  assert.deepEqual(faults, []);
  await close();
});

for (const path of Object.keys(PAGES).filter(one => one.startsWith('/twice/'))) {
  test(`${path}: two copies on a page hear their own channels only`, LONG, async () => {
    const { made, faults, close } = await open(path);
    for (const name of ['a', 'b']) await isOpen(made, name);
    await hears(made, [['a', 'a'], ['b', 'b']]);
    assert.deepEqual(faults, []);
    await close();
  });
}

for (const path of Object.keys(PAGES).filter(one => one.startsWith('/load/'))) {
  test(`${path}: a connection that is begun while the page is being loaded does not keep it from being loaded`, LONG, async () => {
    const { made, faults, close } = await open(path);
    await made.waitForFunction(() => document.readyState === 'complete', null, { timeout: SOON });
    await isOpen(made);
    await hears(made, [['lt', 'a']]);
    assert.deepEqual(faults, []);
    await close();
  });
}

for (const path of ['/load/forever-frame', '/load/jsonp']) {
  test(`${path}: a server that does not answer does not hold up the page`, LONG, async () => {
    const context = await browser.newContext();
    const made = await context.newPage();
    // The library itself comes from another origin.
    await made.route('**/client.js', route => route.fulfill({ contentType: 'text/javascript', body: joined(PARTS) }));
    server.child.kill('SIGSTOP');
    try {
      await made.goto(front.base + path, { waitUntil: 'commit' });
      if (path === '/load/jsonp') await pause(4000);
    } finally {
      server.child.kill('SIGCONT');
    }
    await made.waitForFunction(() => document.readyState === 'complete', null, { timeout: SOON });
    await isOpen(made);
    await hears(made, [['lt', 'a']]);
    await context.close();
  });
}
