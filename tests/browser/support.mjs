// What the browser tests share: a server on free ports, a browser, and waiting.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
export const pictures = join(target, 'browser');

// The one that was built last.
export const binary = process.env.LONGTAIL_BIN
  ?? ['release', 'debug'].map(kind => join(target, kind, 'longtail')).filter(existsSync)
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];

// Settings of the person who runs the tests stay out of them.
export const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LONGTAIL_')));
env.NO_COLOR = '1';

// Starts the server and waits for the line that names its address. A command is the first of its arguments.
export async function startServer(args = []) {
  const command = args[0] === 'demo' ? args.slice(0, 1) : [];
  args = args.slice(command.length);
  assert.ok(binary && existsSync(binary), 'no longtail binary: run cargo build first');
  const defaults = [['--listen', '127.0.0.1:0'], ['--tcp-listen', 'off'], ['--heartbeat-seconds', '2']]
    .filter(([flag]) => !args.includes(flag)).flat();
  const child = spawn(binary, [...command, ...defaults, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env
  });
  let log = '';
  const base = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no address within 20 s:\n' + log)), 20000);
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

export async function startBrowser(flags = []) {
  const executablePath = process.env.CHROMIUM
    ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  assert.ok(executablePath, 'no Chromium: install it or set CHROMIUM');
  return chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', ...flags] });
}

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

// Asks again until it is true, or gives the last answer's complaint.
export async function until(what, check, within = 20000) {
  const end = Date.now() + within;
  let last;
  for (;;) {
    last = await check();
    if (last === true) return;
    if (Date.now() > end) assert.fail(`${what}: ${JSON.stringify(last, null, 1)}`);
    await pause(100);
  }
}

export async function publish(base, channel, data, query = '') {
  const answer = await fetch(`${base}/publish?channel=${channel}${query}`, { method: 'POST', body: JSON.stringify(data) });
  assert.equal(answer.status, 200);
  return (await answer.json()).messages[0].id;
}
