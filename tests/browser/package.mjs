// Tests the npm package: the test packs it, installs it in another folder, and uses it from there in the same way as
// its users.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { promisify } from 'node:util';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { startServer } from './support.mjs';

const SECRET = 'a secret of at least thirty-two bytes';
const part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
const signed = `${part({ alg: 'HS256' })}.${part({ exp: Math.floor(Date.now() / 1000) + 3600, subscribe: ['*'], publish: ['*'] })}`;
const TOKEN = `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;

const root = fileURLToPath(new URL('../..', import.meta.url));
const tsc = fileURLToPath(new URL('node_modules/typescript/bin/tsc', import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'longtail-package-'));
const run = (command, ...args) => execFileSync(command, args, { cwd: work, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

before(() => {
  run('npm', 'pack', '--silent', '--pack-destination', work, join(root, 'static/package'));
  const [packed] = readdirSync(work).filter(name => name.endsWith('.tgz'));
  mkdirSync(join(work, 'node_modules'));
  writeFileSync(join(work, 'package.json'), '{"private":true}');
  run('npm', 'install', '--silent', '--offline', '--no-audit', '--no-fund', './' + packed);
});

after(() => rmSync(work, { recursive: true, force: true }));

test('it has what it names, and the licences', () => {
  const files = readdirSync(join(work, 'node_modules/longtail-client')).sort();
  assert.deepEqual(files, ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'longtail.cjs', 'longtail.d.cts', 'longtail.d.mts',
    'longtail.d.ts', 'longtail.js', 'longtail.min.js', 'longtail.mjs', 'longtail.node.cjs', 'longtail.node.mjs', 'package.json']);
});

const CHECK = 'if (Longtail.connect !== connect || typeof newClientId !== "function" || Longtail.version !== version) throw 1;';

test('it is imported and required, also where there is no browser', () => {
  writeFileSync(join(work, 'a.mjs'), `import Longtail, { connect, newClientId, version } from 'longtail-client';\n${CHECK}`);
  run('node', 'a.mjs');
  writeFileSync(join(work, 'a.cjs'), `const Longtail = require('longtail-client');
    const { connect, newClientId, version } = Longtail;\n${CHECK}\nif (Longtail.default !== Longtail) throw 2;`);
  run('node', 'a.cjs');
  run('node', '-e', "if (require('longtail-client/longtail.min.js') === undefined) throw 3");
});

// Node has WebSocket since version 22. In older versions, a flag switches it on.
for (const [name, load] of [
  ['a.mjs', "import { connect } from 'longtail-client';"],
  ['a.cjs', "const { connect } = require('longtail-client');"]
]) {
  test(`it reads and publishes in Node, with each transport that needs no page: ${name}`, { timeout: 300000 }, async () => {
    const server = await startServer(['--token-secret', SECRET]);
    writeFileSync(join(work, name), `${load}
      const wait = ms => new Promise(resolve => setTimeout(resolve, ms));
      (async () => {
        for (const transport of ['ws', 'xhr-stream', 'long-poll', 'poll']) {
          const lt = connect('${server.base}', { channels: 'node', transports: [transport], interval: 100, token: done => done('${TOKEN}') });
          const heard = [];
          lt.on('error', error => console.error(transport, error));
          lt.on('message', message => heard.push(message.data));
          lt.on('open', () => lt.publish('node', transport));
          while (!heard.length) await wait(20);
          if (heard.join() !== transport || lt.transport !== transport) throw new Error(heard.join());
          lt.close();
        }
        console.log('all');
        process.exit();
      })();`);
    const { stdout } = await promisify(execFile)('node', ['--experimental-websocket', name], { cwd: work, timeout: 240000 });
    server.stop();
    assert.equal(stdout.trim(), 'all');
  });
}

const USE = `
interface Item { title: string }
const lt: Connection = connect('', { channels: ['todo'], transports: ['ws', 'long-poll'] });
lt.on<Item>('itemAdded', (data, message: Message<Item>) => console.log(data.title, message.id));
lt.publish('todo', { title: 'milk' }, { event: 'itemAdded', toSelf: false });
Longtail.connect('', { channels: 'a' }).close();
console.log(newClientId().length);
// @ts-expect-error a transport that does not exist
connect('', { channels: 'a', transports: ['carrier-pigeon'] });
`;

for (const [name, text] of [
  ['module.mts', "import Longtail, { connect, newClientId, type Connection, type Message } from 'longtail-client';"],
  ['common.cts', "import Longtail = require('longtail-client');\nimport { connect, newClientId, type Connection, type Message } from 'longtail-client';"]
]) {
  test(`its types are right in ${name}`, () => {
    writeFileSync(join(work, name), text + USE);
    try {
      run(process.execPath, tsc, '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom', name);
    } catch (error) {
      assert.fail(error.stdout);
    }
  });
}
