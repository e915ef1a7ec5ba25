// The comparison page where there is no weather: of a plain `longtail`, also after a restart, and by HTTP/2.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { agree, lanes, listen, setRate } from './lanes.mjs';
import { freePort } from './matrix/proxies.mjs';
import { pause, pictures, root, startBrowser, startServer, until } from './support.mjs';

let browser;

before(async () => {
  browser = await startBrowser();
});

after(() => browser?.close());

test('without the demo the page is useful, and says what is missing', { timeout: 60000 }, async () => {
  let plain = await startServer(['--tcp-listen', '127.0.0.1:0']);
  const complaints = [];
  const other = await browser.newPage();
  listen(other, complaints);
  try {
    await other.goto(plain.base + '/');
    await other.waitForSelector('#lanes .lane');
    await setRate(other, 5);
    await until('every lane moves', async () => {
      const all = await lanes(other);
      return (all.length === 8 && all.every(lane => lane.state === 'open' && lane.count >= 5)) || all;
    });
    await setRate(other, 0);
    await agree(other);
    assert.ok(await other.isVisible('#no-weather') && !(await other.isVisible('#weather')));
    assert.match(await other.textContent('#lane-tcp pre'), /nc 127\.0\.0\.1 \d+/);
    assert.equal((await other.$$('.diagram .arrow')).length > 20, true, 'the diagrams are drawn');
    assert.deepEqual(complaints, []);

    // The server goes and comes back. A log in memory is lost with it, so each lane is told of a gap and goes on.
    const port = new URL(plain.base).port;
    await new Promise(resolve => {
      plain.child.removeAllListeners('exit');
      plain.child.on('exit', resolve);
      plain.child.kill('SIGKILL');
    });
    plain = await startServer(['--listen', '127.0.0.1:' + port]);
    await until('every lane is open again and was told of the gap', async () => {
      const all = await lanes(other);
      return all.every(lane => lane.state === 'open' && lane.gaps === 1) || all;
    }, 45000);
  } finally {
    await other.close();
    plain.stop();
  }
});

test('a demo that is gone is missed, and found again when it is started anew', { timeout: 60000 }, async () => {
  let demo = await startServer(['demo', '--tcp-listen', '127.0.0.1:0']);
  const other = await browser.newPage();
  const moves = () => until('all lanes move', async () => {
    const all = await lanes(other);
    return (all.length === 9 && all.every(lane => lane.state === 'open' && lane.count >= 2 && !lane.gaps)) || all;
  });
  try {
    await other.goto(demo.base + '/');
    await moves();
    const below = await other.$eval('#lanes', lanes => lanes.offsetTop);
    await other.click('#publish button[type=submit]');
    await other.waitForFunction(() => /^Published as/.test(document.getElementById('outcome').textContent));
    assert.equal(await other.$eval('#lanes', lanes => lanes.offsetTop), below, 'the lanes stay where they are');
    await new Promise(resolve => {
      demo.child.removeAllListeners('exit');
      demo.child.on('exit', resolve);
      demo.child.kill('SIGKILL');
    });
    await until('the page says so', async () => {
      const said = [await other.textContent('#lesson'), await other.textContent('#own')];
      return said.every(text => /no answer from the server/i.test(text)) || said;
    });
    const changes = await other.textContent('#hop-hops');
    await pause(4000);
    assert.equal(await other.textContent('#hop-hops'), changes, 'nobody hops while there is no server');
    const loaded = other.waitForEvent('load');
    demo = await startServer(['demo', '--listen', new URL(demo.base).host, '--tcp-listen', '127.0.0.1:0']);
    await loaded;
    await moves();
  } finally {
    await other.close();
    demo.stop();
  }
});

test('by HTTP/2: lanes of its own, which say so', { timeout: 40000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'longtail-demo-'));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')], { stdio: 'ignore' });
  const demo = await startServer(['demo', '--tcp-listen', '127.0.0.1:0']);
  const { port } = new URL(demo.base);
  // TLS ends in front of the server, as it often does.
  const front = http2.createSecureServer({ key: readFileSync(join(dir, 'key.pem')), cert: readFileSync(join(dir, 'cert.pem')) });
  const hop = /^(connection|transfer-encoding|keep-alive|upgrade)$/;
  front.on('stream', (stream, headers) => {
    const sent = Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')));
    const to = http.request({ port, host: '127.0.0.1', method: headers[':method'], path: headers[':path'], headers: { ...sent, host: headers[':authority'] } }, from => {
      const got = Object.fromEntries(Object.entries(from.headers).filter(([name]) => !hop.test(name)));
      stream.respond({ ':status': from.statusCode, ...got });
      from.on('error', () => stream.close()).pipe(stream);
    });
    stream.on('error', () => to.destroy()).on('close', () => to.destroy());
    to.on('error', () => stream.close());
    stream.pipe(to);
  });
  await new Promise(resolve => front.listen(0, '127.0.0.1', resolve));
  const secure = await browser.newPage({ ignoreHTTPSErrors: true });
  try {
    await secure.goto(`https://localhost:${front.address().port}/`);
    await secure.waitForSelector('#lane-sse-h2');
    await until('the lanes of HTTP/2 and of the weather move', async () => {
      const all = (await lanes(secure)).filter(lane => ['sse-h2', 'sse', 'poll', 'ws', 'tcp'].includes(lane.id));
      return (all.length === 5 && all.every(lane => lane.count >= 2) && all.find(lane => lane.id === 'sse-h2').protocol === 'HTTP/2') || all;
    });
  } finally {
    await secure.close();
    demo.stop();
    front.close();
    rmSync(dir, { recursive: true });
  }
});
