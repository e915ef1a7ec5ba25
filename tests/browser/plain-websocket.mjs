// The pages of examples/plain-websocket in Chromium, with their application in PHP.
//   node --test plain-websocket.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { LONG, env, pictures, publish, root, startBrowser, startServer, until } from './support.mjs';

const work = mkdtempSync(join(tmpdir(), 'longtail-plain-websocket-'));
const ends = [];
let server, browser, site, push;

before(async () => {
  const secret = join(work, 'secret');
  writeFileSync(secret, 'a secret of more than thirty-two bytes\n');
  const port = await freePort();
  // Without workers: those would outlive a PHP that is killed.
  const php = spawn('php', ['-S', `127.0.0.1:${port}`, '-t', join(root, 'examples/plain-websocket/public')],
    { stdio: 'ignore', env: { ...env, HOOK_SECRET: secret } });
  ends.push(() => php.kill('SIGKILL'));
  site = `http://127.0.0.1:${port}`;
  server = await startServer(['--raw-websocket', '/chat=chat on-message=hook', '--raw-websocket', '/demo=demo on-message=hook',
    '--hook-url', `${site}/hook.php`, '--hook-secret-file', secret, '--hook-notify', 'connect,event,disconnect', '--hook-timeout', '20']);
  ends.push(server.stop);
  push = new URL(server.base).host;
  await until('PHP answers', async () => (await fetch(`${site}/ratchet.html`).catch(error => error)).status === 200);
  browser = await startBrowser();
  ends.push(() => browser.close());
}, LONG);

after(async () => {
  await Promise.allSettled(ends.reverse().map(end => end()));
  rmSync(work, { recursive: true, force: true });
});

const lines = page => page.locator('#log > *').allInnerTexts();
const shows = (page, expected) => until('the page shows it', async () => {
  const shown = (await lines(page)).map(line => line.replace(/\s+/g, ' '));
  return JSON.stringify(shown) === JSON.stringify(expected) || [shown, server.said().slice(-1000)];
});

async function say(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

async function picture(page, name) {
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, name) });
}

test('a page for Ratchet talks to the others through PHP', LONG, async () => {
  const open = async () => {
    const page = await browser.newPage();
    await page.goto(`${site}/ratchet.html?push=${push}`);
    await shows(page, ['Connection established!']);
    return page;
  };
  const one = await open();
  const two = await open();
  await shows(one, ['Connection established!', 'Somebody has come.']);
  await say(one, 'Hello World!');
  await shows(two, ['Connection established!', 'Hello World!']);
  await say(two, '{"not":"decoded"}');
  // What the page says goes through PHP, and would otherwise come later than what is published directly.
  await shows(one, ['Connection established!', 'Somebody has come.', 'Hello World!', '{"not":"decoded"}']);
  await publish(server.base, 'chat', 'from outside');
  const all = ['Connection established!', 'Somebody has come.', 'Hello World!', '{"not":"decoded"}', 'from outside'];
  await shows(one, all);
  await picture(one, 'ratchet.png');
  await two.close();
  await shows(one, [...all, 'Somebody has gone.']);
});

test('a page for Wrench sends actions to PHP', LONG, async () => {
  const open = async name => {
    const page = await browser.newPage();
    await page.goto(`${site}/wrench.html?push=${push}&name=${name}`);
    await page.locator('#status.online').waitFor();
    return page;
  };
  const ann = await open('Ann');
  const ben = await open('Ben');
  await say(ann, 'Hello');
  for (const page of [ann, ben]) await shows(page, ['Ann Hello']);
  await say(ben, 'Hi <b>Ann</b>');
  for (const page of [ann, ben]) await shows(page, ['Ann Hello', 'Ben Hi <b>Ann</b>']);
  await ann.click('#ask');
  await ann.getByText(/It is \d\d:\d\d at the server/).waitFor();
  assert.equal(await ben.locator('#time').innerText(), '', 'only the page that has asked gets the answer');
  await picture(ann, 'wrench.png');
});
