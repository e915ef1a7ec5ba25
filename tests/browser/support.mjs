// Functions that the browser tests share: they start a server on free ports and a browser, and wait for conditions.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { chromium, firefox } from 'playwright-core';
import { freePort } from './ports.mjs';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
export const pictures = join(target, 'browser');

// The binary that was built last.
export const binary = process.env.LONGTAIL_BIN
  ?? ['release', 'debug'].map(kind => join(target, kind, 'longtail')).filter(existsSync)
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];

// The tests do not see the settings of the user who runs them.
export const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LONGTAIL_')));
env.NO_COLOR = '1';

// Each server adds a listener.
process.setMaxListeners(0);

// Starts the server and waits for the line that names its address. If there is a command, it is the first argument.
export async function startServer(args = []) {
  const command = args[0] === 'demo' ? args.slice(0, 1) : [];
  args = args.slice(command.length);
  assert.ok(binary && existsSync(binary), 'no longtail binary: run cargo build first');
  // The kernel does not choose the port, because another program could take such a port before a restart.
  const defaults = [['--listen', `127.0.0.1:${await freePort()}`], ['--tcp-listen', 'off'], ['--heartbeat-seconds', '2']]
    .filter(([flag]) => !args.includes(flag)).flat();
  const child = spawn(binary, [...command, ...defaults, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env
  });
  // A test that fails before it stops its server must not leave it behind.
  process.on('exit', () => child.kill());
  let log = '';
  const base = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no address within 60 s:\n' + log)), 60000);
    const read = chunk => {
      log += chunk;
      const found = /listening on (https?:\/\/[0-9.]+:\d+)/.exec(log);
      if (found) {
        clearTimeout(timer);
        resolve(found[1]);
      }
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.on('exit', code => reject(new Error(`the server ended with ${code}:\n${log}`)));
  });
  return { base, child, said: () => log, stop: () => child.kill('SIGTERM') };
}

// Kills a server (`kill -9`), and waits until it is gone, so that another one can take its port.
export const kill = server => new Promise(resolve => {
  server.child.removeAllListeners('exit');
  server.child.on('exit', resolve);
  server.child.kill('SIGKILL');
});

export async function startBrowser(flags = []) {
  const executablePath = process.env.CHROMIUM
    ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  assert.ok(executablePath, 'no Chromium: install it or set CHROMIUM');
  const args = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', ...flags];
  return patient(await chromium.launch({ executablePath, headless: true, timeout: 2 * SOON, args }));
}

export async function startFirefox(colorScheme) {
  const executablePath = process.env.FIREFOX ?? ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);
  assert.ok(executablePath, 'no Firefox: install it or set FIREFOX');
  const firefoxUserPrefs = {
    'layout.css.prefers-color-scheme.content-override': colorScheme === 'dark' ? 0 : 1,
    'ui.useOverlayScrollbars': 1
  };
  return patient(await firefox.launch({ channel: 'moz-firefox', executablePath, headless: true, timeout: 2 * SOON, firefoxUserPrefs }));
}

// The time limit for a step that should happen at once. It is generous, because the tests share a small machine, and a
// test that passes never waits for it. LONG is the limit of a whole test.
export const SOON = 60000;
export const LONG = { timeout: 600000 };

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

// A browser whose pages have the same limits as the tests.
export function patient(browser) {
  for (const name of ['newContext', 'newPage']) {
    const make = browser[name].bind(browser);
    browser[name] = async options => {
      const made = await make(options);
      made.setDefaultTimeout(SOON);
      return made;
    };
  }
  return browser;
}

// Asks again until the answer is true, or fails with the last answer.
export async function until(what, check, within = SOON) {
  const end = Date.now() + within;
  let last;
  for (;;) {
    last = await check();
    if (last === true) return;
    if (Date.now() > end) assert.fail(`waited ${within / 1000} s until ${what}; the last that came: ${JSON.stringify(last, null, 1)}`);
    await pause(100);
  }
}

export async function publish(base, channel, data, query = '') {
  const answer = await fetch(`${base}/publish?channel=${channel}${query}`, { method: 'POST', body: JSON.stringify(data) });
  const text = await answer.text();
  assert.equal(answer.status, 200, `publishing to ${channel}: ${text}`);
  return JSON.parse(text).messages[0].id;
}

/* ---- pages with the library ---- */

// A page of an origin that contains the library. The library may come from another origin.
export async function libraryPage(context, origin, { path = '/healthz', script = origin + '/client.js' } = {}) {
  const page = await context.newPage();
  await page.goto(origin + path);
  await page.addScriptTag({ url: script });
  return page;
}

// Connects in a page as `lt`, and keeps what the page hears: the data of messages in `seen`, the time of each in
// `times`, in `got` the channel (or the name of an event without one) and the data, what `state`, `transport`, `error` and `close` tell in `states`, `steps`, `errors` and `ends`, and the
// number of `gaps`.
export const listen = (page, options, url = '') => page.evaluate(([url, options]) => {
  Object.assign(window, { seen: [], times: [], got: [], states: [], steps: [], errors: [], ends: [], gaps: 0 });
  // A test may give a function `askToken` to the page.
  if (window.askToken) options.token = done => { window.askToken().then(done); };
  window.lt = Longtail.connect(url, options);
  window.lt.on('message', message => {
    window.seen.push(message.data);
    window.times.push(Date.now());
    window.got.push([message.channel || message.event, message.data]);
  });
  window.lt.on('state', state => { window.states.push(state); });
  window.lt.on('transport', name => { window.steps.push(name); });
  window.lt.on('error', error => { window.errors.push(error); });
  window.lt.on('close', why => { window.ends.push(why); });
  window.lt.on('gap', () => { window.gaps += 1; });
}, [url, options]);

// A page with the library, connected.
export async function connectedPage(context, origin, options, where) {
  const page = await libraryPage(context, origin, where);
  await listen(page, options);
  return page;
}

export const seen = page => page.evaluate(() => window.seen);

// The data of the last message, from each page.
export const lastSeen = pages => Promise.all(pages.map(page => page.evaluate(() => window.seen.at(-1))));

// The state and the transport, such as "open,ws".
export const state = page => page.evaluate(() => [window.lt.state, window.lt.transport].join());

// Waits until the connection is open, by this transport if one is named.
export const opened = (page, transport = '') => until(`it is open ${transport && 'by ' + transport}`, async () => {
  const is = await state(page);
  return (transport ? is === 'open,' + transport : is.startsWith('open,')) || [is, await page.evaluate(() => window.errors)];
});

// The readers of a channel: `total`, and `by_transport`.
export const readers = async (base, channel) => (await (await fetch(`${base}/channels/${channel}`)).json()).readers;

// A client that polled counts for half a minute, so this may take longer than other steps.
export const hasReaders = (base, channel, count) => until(`${channel} has ${count} readers`, async () => {
  const found = await readers(base, channel);
  return found.total === count || found;
}, 2 * SOON);
