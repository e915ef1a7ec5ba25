// Follows docs/application.md from an empty folder: the files and the commands of its chat, with real PHP, a real Redis
// and two people in Chromium. Only the ports are changed.
//   node --test application.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { freePort } from './ports.mjs';
import { LONG, binary, env, pictures, root, startBrowser, until } from './support.mjs';

// The parts of the section: files (with the name before them) and commands, in their order.
const page = readFileSync(join(root, 'docs/application.md'), 'utf8');
const section = page.slice(page.indexOf('## A chat from nothing\n')).split(/\n## (?!A chat)/)[0];
const steps = [...section.matchAll(/(?:Save it as `([^`]+)`:\n\n)?```(\w+)\n([^]*?)\n```/g)].map(([, file, kind, text]) => ({ file, kind, text }));

const work = mkdtempSync(join(tmpdir(), 'longtail-chat-'));
const chat = join(work, 'chat');
const ports = { 6379: 0, 8000: 0, 8080: 0 };
const shell = { ...env, PATH: `${dirname(binary)}:${process.env.PATH}` };
const programs = {};
const logs = {};
let browser;
const complaints = [];

const adapted = text => text.replace(/\b(6379|8000|8080)\b/g, port => ports[port]);

// Starts the command of a step, as in a terminal.
function run(text) {
  const [name] = text.split(' ');
  const child = spawn('bash', ['-c', 'exec ' + adapted(text)], { cwd: chat, env: shell, stdio: ['ignore', 'pipe', 'pipe'] });
  programs[name] = child;
  logs[name] = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', part => { logs[name] += part; });
}

async function end(name) {
  const child = programs[name];
  if (!child || child.exitCode !== null) return;
  const gone = new Promise(resolve => child.on('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

before(async () => {
  mkdirSync(pictures, { recursive: true });
  for (const port of Object.keys(ports)) ports[port] = await freePort();
  const commands = steps.filter(step => step.kind === 'sh').map(step => step.text);
  const files = steps.filter(step => step.kind !== 'sh');
  assert.deepEqual(files.map(step => step.file), ['public/hook.php', 'public/index.php']);
  assert.deepEqual(commands.slice(1).map(text => text.split(' ')[0]), ['redis-server', 'php', 'longtail']);
  const made = spawnSync('bash', ['-ec', commands[0]], { cwd: work, env: shell, encoding: 'utf8' });
  assert.equal(made.status, 0, made.stderr);
  for (const { file, text } of files) writeFileSync(join(chat, file), adapted(text) + '\n');
  // A person opens one terminal after the other.
  for (const text of commands.slice(1)) {
    const [name] = text.split(' ');
    run(text);
    await until(`${name} is there`, () => /Ready to accept|Development Server|listening on/.test(logs[name]) || logs[name].slice(-2000));
  }
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  for (const name of Object.keys(programs)) await end(name);
  rmSync(work, { recursive: true, force: true });
});

// A person with a browser of their own, who has chosen a name.
async function person(name) {
  const page = await (await browser.newContext()).newPage();
  page.on('pageerror', error => complaints.push(`${name}: ${error.message}`));
  await page.goto(`http://127.0.0.1:${ports[8000]}/`);
  await page.fill('[name=name]', name);
  await page.click('button');
  await page.waitForSelector('#lines', { state: 'attached' });
  return page;
}

const shows = (page, selector, text) => until(`${selector} is ${text}`, async () => {
  const shown = (await page.textContent(selector)).trim();
  return shown === text || [shown, logs.longtail.slice(-2000), logs.php.slice(-2000)];
});

const lines = (page, list) => until(`the lines are ${list}`, async () => {
  const shown = await page.$$eval('#lines li', all => all.map(one => one.textContent.trim()));
  return JSON.stringify(shown) === JSON.stringify(list) || [shown, logs.php.slice(-2000)];
});

async function say(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

async function enter(page, room) {
  await page.fill('#room', room);
  await page.press('#room', 'Enter');
  await shows(page, '#state', `You are in room:${room}`);
}

test('rooms, names and receipts', LONG, async () => {
  const [ann, zoe] = [await person('Ann'), await person('Zoë')];
  await shows(ann, '#state', 'You are in room:tea');
  await shows(zoe, '#state', 'You are in room:tea');
  for (const page of [ann, zoe]) await shows(page, '#names', 'Ann, Zoë');
  await say(ann, 'Hello <b>Zoë</b>');
  await lines(zoe, ['Ann: Hello <b>Zoë</b>']);
  await lines(ann, ['Ann: Hello <b>Zoë</b> sent ✓ Zoë']);
  await ann.screenshot({ path: join(pictures, 'chat.png') });
  // Another room: the names and the lines are those of the room.
  await enter(zoe, 'coffee');
  await shows(zoe, '#names', 'Zoë');
  await shows(ann, '#names', 'Ann');
  await say(ann, 'Where are you?');
  await lines(ann, ['Ann: Hello <b>Zoë</b> sent ✓ Zoë', 'Ann: Where are you? sent']);
  await lines(zoe, []);
  await enter(ann, 'coffee');
  for (const page of [ann, zoe]) await shows(page, '#names', 'Ann, Zoë');
  await say(zoe, 'Here');
  await lines(ann, ['Zoë: Here']);
  await lines(zoe, ['Zoë: Here sent ✓ Ann']);
  // Back in a room where the page was before.
  await enter(zoe, 'tea');
  await enter(zoe, 'coffee');
  await shows(zoe, '#names', 'Ann, Zoë');
  // A room of another form is refused by the application.
  await zoe.fill('#room', 'No room');
  await zoe.press('#room', 'Enter');
  await shows(zoe, '#state', 'A room has 1 to 20 letters, digits and dashes.');
  await enter(zoe, 'coffee');
  await ann.context().close();
  await shows(zoe, '#names', 'Zoë');
  await zoe.context().close();
});

test('the pages continue when the server starts again', LONG, async () => {
  const [ann, zoe] = [await person('Ann'), await person('Zoë')];
  for (const page of [ann, zoe]) await shows(page, '#names', 'Ann, Zoë');
  await end('longtail');
  await say(ann, 'While it is away');
  run(steps.at(-1).text);
  await lines(zoe, ['Ann: While it is away']);
  await lines(ann, ['Ann: While it is away sent ✓ Zoë']);
  await shows(zoe, '#names', 'Ann, Zoë');
  await ann.context().close();
  await zoe.context().close();
});

test('without a name the page is not accepted, and nobody else calls the hook', LONG, async () => {
  const ann = await person('Ann');
  await shows(ann, '#state', 'You are in room:tea');
  await ann.context().clearCookies();
  await ann.evaluate(push => new Promise(resolve => {
    const lt = Longtail.connect(push, { channels: ['lobby'], session: true, credentials: true });
    lt.on('close', why => resolve(why.message));
  }), `http://127.0.0.1:${ports[8080]}`).then(message => assert.equal(message, 'Choose a name first.'));
  const forged = await fetch(`http://127.0.0.1:${ports[8000]}/hook.php`, { method: 'POST', body: '{"type":"connect"}' });
  assert.equal(forged.status, 403);
  await ann.context().close();
  assert.deepEqual(complaints, []);
  assert.doesNotMatch(logs.php, /Warning|Fatal|Deprecated/);
});
