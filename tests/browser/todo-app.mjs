// The ToDo application of examples/todo-php, started by its own `run`, and the actions of its users.
//   LONGTAIL_BIN, CHROMIUM, FIREFOX: the programs to use. TODO_TEST_DSN, TODO_TEST_USER, TODO_TEST_PASSWORD: an empty
//   MySQL database to use in place of SQLite.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SOON, binary, env as clean, pictures, root, startBrowser, startFirefox as launchFirefox, until } from './support.mjs';

export { until };

export const example = join(root, 'examples/todo-php');
export const FRONTS = ['plain', 'backbone', 'angular', 'ember'];

export const work = mkdtempSync(join(tmpdir(), 'longtail-todo-'));
export const complaints = [];
let runner;
let output = '';
// Whether changes are events, which hook.php answers. Otherwise they are forms.
let areEvents = true;
export let todo;                // address of the application
export let push;                // address of Longtail
export let redisPort;
export let browser;             // Chromium
const browsers = [];

// The tests do not see the settings of the user who runs them.
const env = Object.fromEntries(Object.entries(clean).filter(([name]) => !/^(TODO_|PUSH_PORT|REDIS_PORT)/.test(name)));
Object.assign(env, {
  LONGTAIL_BIN: binary,
  TODO_VAR: work,
  TODO_PORT: '18000',
  PUSH_PORT: '18080',
  REDIS_PORT: '16390',
  TODO_DSN: process.env.TODO_TEST_DSN ?? '',
  TODO_DB_USER: process.env.TODO_TEST_USER ?? '',
  TODO_DB_PASSWORD: process.env.TODO_TEST_PASSWORD ?? ''
});

export const php = (...args) => spawnSync('php', args, { env, stdio: 'ignore' }).status;
export const redisCli = (...args) => spawnSync('redis-cli', ['-p', redisPort, ...args], { encoding: 'utf8' });

// Starts the application and Chromium. With TODO_PLAIN, the application has neither the hook nor presence.
export async function start(settings = {}) {
  Object.assign(env, settings);
  areEvents = !settings.TODO_PLAIN;
  mkdirSync(pictures, { recursive: true });
  assert.ok(binary && existsSync(binary), 'no longtail binary: run cargo build first');
  assert.equal(php('-v'), 0, 'no PHP: apt-get install php-cli');
  runner = spawn(join(example, 'run'), { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve, reject) => {
    runner.on('exit', code => reject(new Error(`run ended with ${code}:\n${output}`)));
  });
  const ready = new Promise(resolve => {
    const read = chunk => {
      output += chunk;
      if (/Ctrl-C ends/.test(output)) resolve();
    };
    runner.stdout.on('data', read);
    runner.stderr.on('data', read);
  });
  ended.catch(() => {});
  await Promise.race([ready, ended, new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('run was not ready within 180 s:\n' + output)), 180000).unref();
  })]);
  todo = /^ToDo +(http:\S+)\/$/m.exec(output)[1];
  push = /^Longtail +(http:\S+)\/$/m.exec(output)[1];
  redisPort = /^Redis +127\.0\.0\.1:(\d+)/m.exec(output)[1];
  browser = await startBrowser();
  browsers.push(browser);
}

// Debian's Firefox, by WebDriver BiDi. The colours cannot be changed later on. (Playwright after 1.60 sends it commands
// that it does not know.)
export async function startFirefox(colorScheme) {
  const made = await launchFirefox(colorScheme);
  browsers.push(made);
  return made;
}

export async function stop() {
  for (const one of browsers) await one.close();
  if (runner && runner.exitCode === null) {
    const gone = new Promise(resolve => runner.on('exit', resolve));
    runner.kill('SIGTERM');
    await gone;
  }
  rmSync(work, { recursive: true, force: true });
}

// Each person has a separate browser context, and therefore separate cookies.
export async function person(name, options = {}, from = browser) {
  const context = await from.newContext({ viewport: { width: 900, height: 900 }, ...options });
  const page = await context.newPage();
  // A browser reports a WebSocket that was just being opened when the page is left, or when `lt.members` opens the
  // connection again. Firefox reports it as an error of the page. The next one follows.
  const isUsual = text => /closed before the connection is established|can’t establish a connection to the server at ws|interrupted while the page was loading/.test(text);
  page.on('pageerror', error => isUsual(error.message) || complaints.push(`${name}: ${error.message}`));
  page.on('console', line => {
    if (line.type() === 'error' && !isUsual(line.text())) complaints.push(`${name}: ${line.text()} ${line.location().url}`);
  });
  page.on('dialog', dialog => {
    complaints.push(`${name}: a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(todo + '/');
  await page.fill('[name=name]', name);
  await page.fill('[name=password]', 'demo');
  await page.click('button.main');
  await page.waitForSelector('.boards');
  return page;
}

export async function open(page, board, { front = 'plain', transport } = {}) {
  await page.goto(`${todo}/board.php?id=${board}&front=${front}` + (transport ? '&transport=' + transport : ''));
  await page.waitForSelector('#state[data-state=open]');
  assert.equal(await page.getAttribute('.fronts [aria-current]', 'href'), `board.php?id=${board}&front=${front}`);
  if (transport) assert.equal(await page.textContent('#state'), 'Live over ' + transport);
}

export const titles = page => page.$$eval('.items .item .title', all => all.map(one => one.textContent));
export const row = (page, title) => page.locator('.items .item').filter({ has: page.getByText(title, { exact: true }) });

export async function has(page, title, times = 1, within = SOON) {
  await until(`“${title}” ${times} times`, async () => {
    const all = await titles(page);
    return all.filter(one => one === title).length === times || all;
  }, within);
}

export async function isDone(page, title, done) {
  await until(`“${title}” ${done ? 'done' : 'open'}`, async () => {
    const now = await row(page, title).getAttribute('data-done');
    return now === (done ? '1' : '0') || now;
  });
}

export async function add(page, title) {
  await page.fill('#new', title);
  await page.press('#new', 'Enter');
  await has(page, title);
}

export async function edit(page, title, action) {
  // The details of this row. A row that is about to disappear may still be open, so the row has to be named.
  await row(page, title).locator('summary').click();
  await action(row(page, title).locator('details[open]'));
}

// One person adds, finishes, reopens, renames and removes items, and the other sees each change. The sender must not
// get messages about these changes.
export async function scenario(one, other, title) {
  // Changes of members are not counted: the other person may still be on the way.
  await one.evaluate(() => {
    const box = window.heard = { messages: 0 };
    todo.lt.on('message', () => { box.messages += 1; });
  });
  const heard = () => one.evaluate(() => window.heard.messages);
  const forms = [];
  const note = request => { if (/change\.php/.test(request.url())) forms.push(request.postData()); };
  one.on('request', note);
  await add(one, title);
  await has(other, title);
  assert.equal(await one.inputValue('#new'), '');
  await row(one, title).locator('.tick').click();
  await isDone(one, title, true);
  await isDone(other, title, true);
  await row(one, title).locator('.tick').click();
  await isDone(other, title, false);
  const renamed = title + ', renamed';
  await edit(one, title, async box => {
    await box.locator('[name=title]').fill(renamed);
    await box.getByText('Save').click();
  });
  await has(one, renamed);
  await has(other, renamed);
  await has(other, title, 0);
  await until('the news says so', async () => {
    const text = await other.textContent('#news');
    return text.includes(`renamed “${title}” to “${renamed}”`) || text;
  });
  assert.equal(await one.evaluate(() => document.activeElement.tagName), 'SUMMARY', 'focus after renaming');
  // The sender sees each change once, even after the time that an echo would take.
  await one.waitForTimeout(200);
  await has(one, renamed);
  assert.equal(await heard(), 0, 'the sender heard of its own changes');
  await row(other, renamed).locator('summary').focus();
  await edit(one, renamed, box => box.getByText('Remove').click());
  await has(one, renamed, 0);
  await has(other, renamed, 0);
  await until('focus when the row that had it is gone', async () => {
    const id = await other.evaluate(() => document.activeElement.id);
    return id === 'new' || id;
  });
  assert.equal(await one.evaluate(() => document.activeElement.id), 'new', 'focus after removing');
  assert.deepEqual(await titles(one), await titles(other));
  assert.equal(await one.textContent('#count'), await other.textContent('#count'));
  one.off('request', note);
  assert.equal(forms.length, areEvents ? 0 : 5, String(forms));
}
