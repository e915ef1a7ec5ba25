// Tests the comparison page without weather: with a plain `longtail`, after a restart, over HTTP/2, below a path of a
// proxy, and with a server that needs tokens.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { agree, lanes, listen, setRate } from './lanes.mjs';
import { freePort } from './ports.mjs';
import { LONG, SOON, kill, pause, pictures, root, startBrowser, startServer, until } from './support.mjs';

let browser;

before(async () => {
  mkdirSync(pictures, { recursive: true });
  browser = await startBrowser();
});

after(() => browser?.close());

test('without the demo the page is useful, and says what is missing', LONG, async () => {
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
    assert.deepEqual([await other.isVisible('#no-weather'), await other.isVisible('#weather')], [true, false]);
    assert.match(await other.textContent('#lane-tcp pre'), /nc 127\.0\.0\.1 \d+/);
    assert.equal((await other.$$('.diagram .arrow')).length > 20, true, 'the diagrams are drawn');
    assert.deepEqual(complaints, []);

    // The server stops and starts again. It loses its log in memory, so each lane gets a gap and continues.
    const port = new URL(plain.base).port;
    await kill(plain);
    plain = await startServer(['--listen', '127.0.0.1:' + port]);
    await until('every lane is open again and was told of the gap', async () => {
      const all = await lanes(other);
      return all.every(lane => lane.state === 'open' && lane.gaps === 1) || all;
    }, 2 * SOON);
  } finally {
    await other.close();
    plain.stop();
  }
});

test('the page says when the demo is gone, and finds it again after a restart', LONG, async () => {
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
    await kill(demo);
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

test('over HTTP/2: the page has lanes for it, which say so', LONG, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'longtail-demo-'));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')], { stdio: 'ignore' });
  const demo = await startServer(['demo', '--tcp-listen', '127.0.0.1:0']);
  const { port } = new URL(demo.base);
  // A proxy in front of the server terminates TLS, as is common.
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

// nginx with the configuration of docs/operations.md.
async function nginx(to) {
  const location = /```nginx\n(location [^`]*)```/.exec(readFileSync(join(root, 'docs/operations.md'), 'utf8'))[1];
  const dir = mkdtempSync(join(tmpdir(), 'longtail-nginx-'));
  const port = await freePort();
  writeFileSync(join(dir, 'nginx.conf'), `daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
events { worker_connections 512; }
http {
  access_log off; default_type text/html;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server { listen 127.0.0.1:${port}; ${location.replace('127.0.0.1:8080', new URL(to).host)} }
}
`);
  const child = spawn(existsSync('/usr/sbin/nginx') ? '/usr/sbin/nginx' : 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')], { stdio: 'ignore' });
  const ended = new Promise(resolve => { child.on('exit', resolve).on('error', resolve); });
  const base = `http://127.0.0.1:${port}/push`;
  await until('nginx passes requests on', () => fetch(base + '/healthz').then(answer => answer.ok || answer.status, String));
  return {
    base,
    stop: async () => {
      child.kill();
      await ended;
      rmSync(dir, { recursive: true });
    }
  };
}

for (const [command, count] of [[[], 8], [['demo'], 9]]) {
  test(`below a path of a proxy's the pages find their server: longtail ${command}`, LONG, async () => {
    const server = await startServer([...command, '--tcp-listen', '127.0.0.1:0']);
    const proxy = await nginx(server.base);
    const context = await browser.newContext();
    const complaints = [];
    const open = async path => {
      const made = await context.newPage();
      listen(made, complaints);
      await made.goto(proxy.base + path);
      return made;
    };
    try {
      const page = await open('/');
      await page.waitForSelector('#lanes .lane');
      await setRate(page, 5);
      await until('every lane moves', async () => {
        const all = await lanes(page);
        return (all.length === count && all.every(lane => lane.state === 'open' && lane.count >= 5)) || all;
      });
      const read = Number(await page.textContent('#hop-count'));
      await until('the reader that hops moves', async () => Number(await page.textContent('#hop-count')) > read || read);
      await setRate(page, 0);
      await agree(page);
      assert.match(await page.textContent('#lane-ndjson pre'), /\/push\/ndjson\?/);
      await page.screenshot({ path: join(pictures, `prefix${command.length}.png`) });
      if (command.length) {
        assert.deepEqual(complaints, []);
        await page.click('[data-weather="strip_upgrade"]');
        await page.waitForSelector('#weather[data-weather="strip_upgrade"]');
        return;
      }
      for (const href of await page.$$eval('footer a', links => links.map(link => link.href))) {
        assert.ok(href.startsWith(proxy.base + '/') && (await fetch(href)).ok, href);
      }
      await page.close();

      const status = await open('/status');
      await until('the status is told', async () => /^ready, for \d+ (seconds|minutes)$/.test(await status.textContent('#state')) || status.textContent('#state'));
      await status.close();
      const diagnose = await open('/diagnose?now=1');
      assert.match(await diagnose.textContent('#state'), /^Testing: 15 seconds/);
      await diagnose.waitForFunction(() => document.getElementById('state').textContent === 'Done.', null, { timeout: 3 * SOON });
      const report = await diagnose.inputValue('#report');
      assert.ok(!report.includes('!!') && report.includes(`server: ${proxy.base}, longtail`), report);
      assert.deepEqual(complaints, []);
    } finally {
      await context.close();
      await proxy.stop();
      server.stop();
    }
  });
}

test('the page of a server that needs tokens says so, and does not ask again and again', LONG, async () => {
  for (const [flag, value] of [['--publish-key', 'k'], ['--public', 'demo']]) {
    const guarded = await startServer([flag, value]);
    const page = await browser.newPage();
    let refused = 0;
    page.on('response', answer => { if (/\/(publish|poll)\?/.test(answer.url()) && answer.status() === 401) refused += 1; });
    try {
      await page.goto(guarded.base + '/');
      if (flag === '--public') {
        await until('it publishes no more by itself', async () => (await page.textContent('#rate-text')) === 'none' || page.textContent('#outcome'));
        assert.match(await page.textContent('#outcome'), /server is guarded, and longtail demo is not/);
        // The server refuses pages of other host names, so the lanes take turns.
        await until('every lane is open', async () => (await lanes(page)).every(lane => ['open', 'paused'].includes(lane.state)) || lanes(page));
      } else {
        await page.waitForSelector('#no-weather:not([hidden])');
        assert.match(await page.textContent('#no-weather'), /This server is guarded.*longtail demo/);
        assert.deepEqual([await page.isVisible('.panels'), await lanes(page)], [false, []]);
      }
      await pause(2500);
      assert.equal(refused, 1);
      await page.screenshot({ path: join(pictures, `guarded${flag}.png`) });
    } finally {
      await page.close();
      guarded.stop();
    }
  }
});
