// Opens the page in Chromium and checks that every lane moves, that all of them show the same ids, that awkward
// payloads arrive as they were sent, and that the hopping reader loses and doubles nothing.
//   node lanes.mjs [path of the longtail binary]
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../..', import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
const binary = process.env.LONGTAIL_BIN
  ?? ['release', 'debug'].map(kind => join(target, kind, 'longtail')).find(existsSync);
const executablePath = process.env.CHROMIUM
  ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const pictures = join(target, 'browser');

const NASTY = [
  '</script><script>window.hurt = 1</script><!-- <img src=x onerror="window.hurt = 2">',
  'line\rreturn\nfeed\r\nboth\u2028separator\u2029paragraph\u0000nul\u0085next',
  '--longtail-7d93a1f0c24e5b68--\r\nContent-Type: text/html\r\n\r\n{"type":"bye"}',
  'id: 1-1.x\ndata: {"type":"bye","code":4003}\n\nevent: bye\ndata: {}',
  { 'a </script> key': ['\u2028', '💧 žluťoučký 中文', '\\u0000 \\" \\\\', 1e21, -0.5, null, true, {}] },
  '',
  // No literals of JavaScript, or not the same ones: two of them are syntax errors in a script.
  JSON.parse('{"__proto__":{"a":1},"b":2}'),
  JSON.parse('['.repeat(2000) + ']'.repeat(2000))
];

let server;
let base;
let browser;
let page;
const complaints = [];

// Settings of the person who runs the tests stay out of them.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LONGTAIL_')));
env.NO_COLOR = '1';

// Starts the server on free ports and waits for the line that names its address.
async function startServer() {
  assert.ok(binary && existsSync(binary), 'no longtail binary: run cargo build first');
  server = spawn(binary, ['--listen', '127.0.0.1:0', '--tcp-listen', '127.0.0.1:0', '--heartbeat-seconds', '2'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env
  });
  let log = '';
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no address within 20 s:\n' + log)), 20000);
    const read = chunk => {
      log += chunk;
      const found = /listening on (http:\/\/[0-9.]+:\d+)/.exec(log.replace(/\x1b\[[0-9;]*m/g, ''));
      if (found) {
        clearTimeout(timer);
        resolve(found[1]);
      }
    };
    server.stdout.on('data', read);
    server.stderr.on('data', read);
    server.on('exit', code => reject(new Error(`the server ended with ${code}:\n${log}`)));
  });
}

before(async () => {
  mkdirSync(pictures, { recursive: true });
  base = await startServer();
  assert.ok(executablePath, 'no Chromium: install it or set CHROMIUM');
  browser = await chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
  page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  page.on('pageerror', error => complaints.push('error: ' + error.message));
  page.on('console', line => {
    if (line.type() === 'error') complaints.push('console: ' + line.text());
  });
  await page.goto(base + '/');
  await page.waitForSelector('#lanes .lane');
});

after(async () => {
  await browser?.close();
  server?.removeAllListeners('exit');
  server?.kill('SIGTERM');
});

const lanes = () => page.$$eval('#lanes .lane', boxes => boxes.map(box => ({
  name: box.dataset.transport,
  state: box.dataset.state,
  count: Number(box.querySelector('.facts dd').textContent),
  lost: Number(box.querySelectorAll('.facts dd')[2].textContent),
  doubled: Number(box.querySelectorAll('.facts dd')[3].textContent),
  cursor: box.querySelector('.cursor .mono').textContent,
  ids: [...box.querySelectorAll('.seen li[data-id]')].map(item => item.dataset.id),
  data: [...box.querySelectorAll('.seen .data')].map(item => item.textContent)
})));

// Asks again until it is true, or gives the last answer's complaint.
async function until(what, check, within = 20000) {
  const end = Date.now() + within;
  let last;
  for (;;) {
    last = await check();
    if (last === true) return;
    if (Date.now() > end) assert.fail(`${what}: ${JSON.stringify(last, null, 1)}`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

test('a lane for every transport of the library, and a command for the others', async () => {
  const info = await (await fetch(base + '/info')).json();
  const shown = (await lanes()).map(lane => lane.name).sort();
  const library = await page.evaluate(() => Longtail.transports.map(transport => transport.name).sort());
  const offered = info.transports.filter(t => t.browser).map(t => t.name).sort();
  assert.deepEqual(library, offered, 'the library and the server do not have the same transports');
  assert.deepEqual(shown, offered);
  const outside = await page.$$eval('#outside .lane', boxes => boxes.map(box => box.id));
  assert.deepEqual(outside.sort(), info.transports.filter(t => !t.browser).map(t => 'lane-' + t.name).sort());
  assert.match(await page.textContent('#lane-tcp .command'), /nc 127\.0\.0\.1 \d+/);
});

test('all lanes move at once', async () => {
  await until('every lane is open and has three messages', async () => {
    const all = await lanes();
    return all.every(lane => lane.state === 'open' && lane.count >= 3) || all;
  });
});

test('all lanes show the same ids', async () => {
  await page.uncheck('#tick');
  await until('every lane shows the same newest ids', async () => {
    const all = await lanes();
    const first = all[0].ids.join();
    return all.every(lane => lane.ids.length === 4 && lane.ids.join() === first && lane.lost === 0 && lane.doubled === 0
      && lane.count === all[0].count) || all;
  });
});

for (const [n, payload] of NASTY.entries()) {
  test(`awkward payload ${n + 1} arrives on every lane as it was sent`, async () => {
    const answer = await fetch(base + '/publish', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ channel: 'demo', event: 'awkward', data: payload })
    });
    const { messages: [{ id }] } = await answer.json();
    await until('every lane has it', async () => {
      const all = await lanes();
      return all.every(lane => lane.ids[0] === id && lane.data[0] === JSON.stringify(payload))
        || all.filter(lane => lane.ids[0] !== id || lane.data[0] !== JSON.stringify(payload));
    });
    assert.equal(await page.evaluate(() => window.hurt), undefined);
  });
}

test('the form publishes, and a lane that was paused goes on from its cursor', async () => {
  await page.click('#lane-sse button');
  const before = (await lanes()).find(lane => lane.name === 'sse').count;
  for (const text of ['plain, not JSON', '{"b":1,"a":1.0}']) {
    await page.fill('[name=data]', text);
    await page.click('#publish button[type=submit]');
    await page.waitForFunction(() => /^Published as/.test(document.getElementById('outcome').textContent));
    await page.evaluate(() => { document.getElementById('outcome').textContent = ''; });
  }
  await until('the others have both', async () => {
    const all = (await lanes()).filter(lane => lane.name !== 'sse');
    return all.every(lane => lane.data[1] === '"plain, not JSON"' && lane.data[0] === '{"b":1,"a":1}') || all;
  });
  assert.equal((await lanes()).find(lane => lane.name === 'sse').count, before);
  await page.click('#lane-sse button');
  await until('the paused lane has caught up', async () => {
    const lane = (await lanes()).find(lane => lane.name === 'sse');
    return (lane.count === before + 2 && lane.data[1] === '"plain, not JSON"') || lane;
  });
});

test('what is not for this page does not come to it, and a volatile message has no id', async () => {
  await page.fill('[name=data]', '"excluded"');
  await page.check('[name=exclude]');
  await page.click('#publish button[type=submit]');
  await page.waitForFunction(() => /^Published as/.test(document.getElementById('outcome').textContent));
  await page.uncheck('[name=exclude]');
  await page.fill('[name=data]', '"volatile"');
  await page.check('[name=volatile]');
  await page.click('#publish button[type=submit]');
  await until('the streams have the volatile one', async () => {
    const all = (await lanes()).filter(lane => ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame'].includes(lane.name));
    return all.every(lane => lane.data[0] === '"volatile"' && lane.data[1] !== '"excluded"') || all;
  });
  await page.uncheck('[name=volatile]');
});

test('large messages make the growing answers roll over, and nothing is lost', async () => {
  const rolling = (await (await fetch(base + '/info')).json()).transports.filter(t => t.rollover).map(t => t.name);
  assert.ok(rolling.length >= 3);
  const requests = () => page.$$eval('#lanes .lane', boxes => Object.fromEntries(boxes.map(box =>
    [box.dataset.transport, Number(box.querySelectorAll('.facts dd')[1].textContent)])));
  const before = await requests();
  let last;
  for (let n = 0; n < 12; n++) {
    const answer = await fetch(base + '/publish?channel=demo&event=large', { method: 'POST', body: JSON.stringify('x'.repeat(40000) + n) });
    last = (await answer.json()).messages[0].id;
  }
  await until('every lane has the last of them and lost none', async () => {
    const all = await lanes();
    return all.every(lane => lane.ids[0] === last && lane.lost === 0 && lane.doubled === 0)
      || all.map(({ name, state, ids, lost, doubled }) => ({ name, state, ids, lost, doubled }));
  });
  const after = await requests();
  for (const name of rolling) assert.ok(after[name] >= before[name] + 3, `${name}: ${before[name]} to ${after[name]} requests`);
});

test('the hopping reader goes through every transport and loses nothing', { timeout: 90000 }, async () => {
  await page.check('#tick');
  const rungs = await page.$$eval('#rungs li', items => items.length);
  assert.equal(rungs, (await lanes()).length);
  await until('it has been through all', async () => {
    const hops = Number(await page.textContent('#hop-hops'));
    return hops > rungs || hops;
  }, 60000);
  await page.uncheck('#tick');
  await until('it has what the lanes have', async () => {
    const all = await lanes();
    const seen = Number(await page.textContent('#hop-count'));
    // A volatile message went to those connected at that moment, so the counts may differ by it.
    return seen >= all.find(lane => lane.name === 'poll').count || { seen, all };
  });
  assert.equal(await page.textContent('#hop-lost'), '0');
  assert.equal(await page.textContent('#hop-doubled'), '0');
});

test('pictures: light, dark and on a phone', async () => {
  await page.check('#tick');
  await page.waitForTimeout(3000);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.screenshot({ path: join(pictures, 'light.png'), fullPage: true });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: join(pictures, 'dark.png'), fullPage: true });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  await page.screenshot({ path: join(pictures, 'phone.png'), fullPage: true });
  assert.ok(wide <= 390, `the page is ${wide} pixels wide on a phone of 390`);
});

test('the page had nothing to complain about', () => {
  assert.deepEqual(complaints, []);
});

test('readers come back after the server has gone and come again', { timeout: 60000 }, async () => {
  const port = new URL(base).port;
  server.removeAllListeners('exit');
  await new Promise(resolve => {
    server.on('exit', resolve);
    server.kill('SIGKILL');
  });
  server = spawn(binary, ['--listen', '127.0.0.1:' + port, '--tcp-listen', 'off', '--heartbeat-seconds', '2'], { stdio: 'ignore', env });
  // A log in memory is lost with its server, so each lane is told of a gap and then goes on.
  await until('every lane is open again and was told of the gap', async () => {
    const all = await page.$$eval('#lanes .lane', boxes => boxes.map(box => ({
      name: box.dataset.transport,
      state: box.dataset.state,
      gaps: Number(box.dataset.gaps),
      at: Date.parse(/"at":"([^"]+)"/.exec(box.querySelector('.seen .data')?.textContent ?? '')?.[1] ?? '')
    })));
    return all.every(lane => lane.state === 'open' && lane.gaps === 1 && Date.now() - lane.at < 4000) || all;
  }, 45000);
});
