// The browser library in Chromium: tabs that share, the diagnosis of a path, and publishing where scripts may not send
// a request.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { PARTS, joined } from './parts.mjs';
import {
  LONG, SOON, hasReaders, libraryPage, listen, opened, pause, publish, readers, root, seen, startBrowser, startServer, until
} from './support.mjs';

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

test('the server joins the parts that the minified library is made of', async () => {
  assert.equal(await (await fetch(server.base + '/client.js')).text(), joined(PARTS));
});

test('the ladder ends at a WebSocket, and the first message comes before', async () => {
  const context = await browser.newContext();
  const made = await libraryPage(context, server.base);
  await publish(server.base, 'ladder', 'before');
  await made.evaluate(() => {
    window.steps = [];
    window.lt = Longtail.connect('', { channels: 'ladder', last: 1 });
    window.lt.on('transport', name => window.steps.push(name));
    window.lt.on('message', message => window.steps.push(message.data));
  });
  await until('it is on top', async () => {
    const steps = await made.evaluate(() => window.steps);
    return steps.join() === 'long-poll,before,ws' || steps;
  });
  await context.close();
});

test('tabs that share have one connection, and the next goes on when its tab is closed', LONG, async () => {
  const context = await browser.newContext();
  const tabs = [];
  for (let n = 0; n < 3; n++) tabs.push(await libraryPage(context, server.base));
  for (const [n, tab] of tabs.entries()) {
    await listen(tab, { channels: n === 2 ? ['shared', 'more'] : ['shared'], share: true });
    await opened(tab, 'shared');
  }
  await hasReaders(server.base, 'shared', 1);
  let sent = 0;
  const send = async count => { for (let n = 0; n < count; n++) await publish(server.base, 'shared', ++sent); };
  const all = () => Array.from({ length: sent }, (_, n) => n + 1);
  await send(20);
  await publish(server.base, 'more', 'for one');
  for (const tab of tabs) {
    await until('each tab has each message once', async () => {
      const got = await seen(tab);
      return got.filter(data => data !== 'for one').join() === all().join() || got;
    });
  }
  assert.equal((await seen(tabs[2])).includes('for one'), true);
  assert.equal((await seen(tabs[0])).includes('for one'), false);

  // A message that a tab publishes with toSelf: false reaches all other tabs, including the tabs that share its
  // connection.
  await tabs[1].evaluate(() => new Promise((resolve, reject) => window.lt.publish('shared', 'by two', { toSelf: false },
    error => error ? reject(new Error(error.code)) : resolve())));
  for (const tab of [tabs[0], tabs[2]]) await until('it came', async () => (await seen(tab)).includes('by two') || seen(tab));
  await pause(300);
  assert.equal((await seen(tabs[1])).includes('by two'), false);

  const sending = send(200);
  await pause(100);
  await tabs[0].close();
  await sending;
  for (const tab of tabs.slice(1)) {
    await until('each tab has each message once', async () => {
      const got = (await seen(tab)).filter(data => typeof data === 'number');
      return got.join() === all().join() || [got.length, sent, await tab.evaluate(() => [window.lt.state, window.lt.transport])];
    });
    assert.equal(await tab.evaluate(() => window.gaps), 0);
  }
  await hasReaders(server.base, 'shared', 1);
  await context.close();
});

test('where scripts may not send requests, the library publishes by a form and reads by script elements', async () => {
  const other = server.base.replace('127.0.0.1', 'localhost');
  const context = await browser.newContext();
  await context.addInitScript(() => { delete window.XMLHttpRequest; delete window.WebSocket; delete window.EventSource; delete window.JSON; });
  const made = await libraryPage(context, other, { script: server.base + '/client.js' });
  await made.evaluate(url => {
    window.seen = [];
    window.lt = Longtail.connect(url, { channels: ['form'] });
    window.lt.on('message', message => window.seen.push(message.event + ' ' + message.data.text));
    window.lt.on('open', () => window.lt.publish('form', { text: 'a "b"\n\u017elu\u0165 &=%' }, { event: 'sent' }, () => { window.done = true; }));
  }, server.base);
  await until('it came back', async () => {
    const got = await made.evaluate(() => [window.done, window.lt.transport, window.seen[0]].join('|'));
    return got === 'true|jsonp|sent a "b"\n\u017elu\u0165 &=%' || got;
  });
  await context.close();
});

test('a page without JSON can publish at once', async () => {
  const context = await browser.newContext();
  await context.addInitScript(() => { delete window.JSON; });
  const made = await libraryPage(context, server.base);
  await made.evaluate(() => {
    window.seen = [];
    window.lt = Longtail.connect('', { channels: ['early'], cursor: 'earliest' });
    window.lt.on('message', message => window.seen.push(message.data));
    window.lt.publish('early', 'bird');
  });
  await until('it came back', async () => (await seen(made)).join() === 'bird' || seen(made));
  await context.close();
});

/* ---- what the documents say ---- */

const examples = name => [...readFileSync(root + name, 'utf8').matchAll(/^```(html|js)\n(.*?)^```$/gms)]
  .map(([, kind, code]) => [name, kind, code]).filter(([, , code]) => /connect\(/.test(code));

// The examples, as a reader would paste them into a page. The test changes the address, and defines `add` and `reload`.
test('every example of the documents runs, and shows what is published', LONG, async () => {
  const all = ['README.md', 'docs/library.md', 'static/package/README.md'].flatMap(examples);
  assert.ok(all.length >= 7, `${all.length} examples`);
  for (const [name, kind, given] of all) {
    const example = `${name}:\n${given}`;
    const context = await browser.newContext();
    const made = await context.newPage();
    const faults = [];
    made.on('pageerror', error => faults.push(error.message));
    const code = given.replaceAll(/https?:\/\/(push\.example\.com|127\.0\.0\.1:8080)/g, server.base);
    const module = /^import /m.test(code);
    const body = kind === 'html' ? code : module
      ? `<script type="importmap">{"imports":{"longtail-client":"/longtail.mjs"}}</script><script type="module">${code}window.lt = lt;</script>`
      : `<script src="${server.base}/client.min.js"></script><script>${code}</script>`;
    await context.route('**/longtail.mjs', route => route.fulfill({ contentType: 'text/javascript',
      body: readFileSync(root + 'static/client.min.js', 'utf8') + 'export const { connect } = Longtail;' }));
    await context.route('**/page', route => route.fulfill({ contentType: 'text/html', body: `<script>
      window.shown = [];
      window.add = window.alert = data => shown.push(JSON.stringify(data));
      console.log = data => add(data);
      window.reload = () => add('a gap');
    </script>${body}` }));
    await made.goto(server.base + '/page');
    await made.waitForFunction(() => window.lt?.state === 'open');
    const text = `seen ${Math.random()}`;
    const [channel] = await made.evaluate(() => window.lt.channels);
    await publish(server.base, channel, { title: text }, '&event=itemAdded');
    await until(example, async () => {
      const shown = await made.evaluate(() => [...window.shown, ...Array.from(document.querySelectorAll('li'), item => item.textContent)]);
      return shown.filter(one => one.includes(text)).length === 1 || shown;
    });
    assert.deepEqual(faults, [], example);
    await context.close();
  }
});

/* ---- what only an Internet Explorer has, imitated ---- */

// IE 8 and 9: XMLHttpRequest does not support CORS, and XDomainRequest does not support headers, the status or cookies.
function likeIe8() {
  const Real = window.XMLHttpRequest;
  for (const name of ['WebSocket', 'EventSource', 'XMLHttpRequest']) delete window[name];
  window.XMLHttpRequest = function () {
    this.open = () => { throw new Error('Access is denied.'); };
  };
  window.XDomainRequest = function () {
    const real = new Real();
    this.responseText = '';
    this.open = (method, url) => real.open(method, url);
    this.send = body => {
      // Without one of these handlers, IE 9 sometimes aborts the request.
      for (const name of ['onload', 'onerror', 'ontimeout', 'onprogress']) {
        if (typeof this[name] !== 'function') throw new Error('no ' + name);
      }
      real.send(body);
    };
    this.abort = () => real.abort();
    real.onreadystatechange = () => {
      if (real.readyState < 3) return;
      this.responseText = real.responseText;
      if (real.readyState === 3) this.onprogress();
      else if (real.status === 200) this.onload();
      else this.onerror();
    };
  };
}

// IE 5.5 to 9: a document that does not belong to a window of the page.
function withHtmlfile() {
  for (const name of ['WebSocket', 'EventSource', 'XMLHttpRequest']) delete window[name];
  window.htmlfiles = 0;
  window.ActiveXObject = function (name) {
    if (name !== 'htmlfile') throw new Error('Automation server can\'t create object');
    window.htmlfiles += 1;
    const holder = document.head.appendChild(document.createElement('iframe'));
    const page = holder.contentDocument;
    Object.defineProperty(page, 'parentWindow', { get: () => holder.contentWindow });
    return page;
  };
}

for (const [what, imitation, host, transport] of [
  ['XDomainRequest streams to another origin, and publishes', likeIe8, 'localhost', 'xhr-stream'],
  ['a forever frame stands in an htmlfile where there is one', withHtmlfile, '127.0.0.1', 'forever-frame']
]) {
  test(what, LONG, async () => {
    const channel = 'ie-' + transport;
    const context = await browser.newContext();
    await context.addInitScript(imitation);
    const made = await libraryPage(context, server.base.replace('127.0.0.1', host), { script: server.base + '/client.js' });
    await listen(made, { channels: [channel] }, host === 'localhost' ? server.base : '');
    await opened(made, transport);
    for (let n = 0; n < 30; n++) await publish(server.base, channel, n);
    await made.evaluate(channel => window.lt.publish(channel, 'mine'), channel);
    await until('all came, in order', async () => {
      const got = await seen(made);
      return got.join() === [...Array(30).keys(), 'mine'].join() || got;
    });
    assert.deepEqual(await made.evaluate(() => [window.lt.transport, window.gaps, window.lt.stats.repeats]), [transport, 0, 0]);
    // The server keeps the stream open until the page closes it.
    const streams = async () => (await readers(server.base, channel)).by_transport[transport] ?? 0;
    await until('the server has it', async () => (await streams()) === 1 || streams());
    await made.evaluate(() => window.lt.close());
    await until('it has let go', async () => (await streams()) === 0 || streams());
    const files = await made.evaluate(() => window.htmlfiles);
    if (imitation === withHtmlfile) assert.ok(files > 0, `${files} htmlfiles were made`);
    await context.close();
  });
}

/* ---- the diagnosis ---- */

// A path to the server that changes the bytes on it: `edit(chunk, socket, isHead)` gets each piece of an answer.
function path(handle) {
  const upstream = Number(new URL(server.base).port);
  const made = net.createServer(client => {
    const to = net.connect(upstream, '127.0.0.1');
    const end = () => { client.destroy(); to.destroy(); };
    client.on('error', end).on('close', end);
    to.on('error', end);
    client.on('data', chunk => to.write(handle.ask ? handle.ask(chunk) : chunk));
    let first = true;
    let kept = [];
    to.on('data', chunk => {
      if (first && handle.answer?.(chunk, end)) return;
      first = false;
      if (handle.hold) kept.push(chunk); else client.write(chunk);
    });
    to.on('close', () => {
      client.end(Buffer.concat(kept));
      kept = [];
    });
  });
  return new Promise(resolve => made.listen(0, '127.0.0.1', () => resolve({
    base: `http://127.0.0.1:${made.address().port}`,
    stop: () => made.close()
  })));
}

// The diagnosis judges a path by time, so a busy machine may look like a slow path. It has three tries to say `wanted`.
async function diagnosis(base, wanted) {
  const context = await browser.newContext();
  let report;
  for (let tries = 0; tries < 3 && !wanted(report ?? ''); tries++) {
    const made = await context.newPage();
    await made.goto(base + '/diagnose?now=1');
    await made.waitForFunction(() => document.getElementById('state').textContent === 'Done.', null, { timeout: 3 * SOON });
    report = await made.inputValue('#report');
    await made.close();
  }
  await context.close();
  return report;
}

test('the diagnosis says in words what a path does', LONG, async () => {
  // Each connection has only one request, so that the end of an answer is visible.
  const closing = chunk => Buffer.from(chunk.toString('latin1').replace(/\r\nConnection: keep-alive/i, '\r\nConnection: close'), 'latin1');
  const kills = await path({ answer: (chunk, end) => { if (chunk.includes(' 101 ')) setTimeout(end, 200); return false; } });
  const holds = await path({ hold: true, ask: closing });
  const old = await path({ ask: chunk => Buffer.from(closing(chunk).toString('latin1').replace(/ HTTP\/1\.1\r\n/, ' HTTP/1.0\r\n'), 'latin1') });
  const [plain, killed, held, aged] = await Promise.all([
    [server, /^(?!.*!!).*ok.*$/s], [kills, /WebSocket opens and is cut[^]*EventSource works/],
    [holds, /EventSource is held back[^]*ok {2}Long polling works[^]*ok {2}Polling works/], [old, /HTTP\/1\.0/]
  ].map(([way, wanted]) => diagnosis(way.base, report => wanted.test(report))));
  for (const way of [kills, holds, old]) way.stop();

  assert.ok(!plain.includes('!!'), plain);
  assert.match(plain, /ok {2}No proxy names itself/);
  assert.match(aged, /!! {2}A proxy on the way speaks HTTP\/1\.0/, aged);
  assert.doesNotMatch(aged, /No proxy/);
  assert.match(plain, /ok {2}Responses are not held back/);
  assert.match(plain, /ok {2}WebSocket works/);

  assert.match(killed, /!! {2}WebSocket opens and is cut after (\d{3,5} ms|\d\.\d s)/, killed);
  assert.match(killed, /ok {2}EventSource works/, killed);

  assert.match(held, /!! {2}Responses are held back until they end/, held);
  assert.match(held, /!! {2}EventSource is held back: nothing arrived within 6 s/, held);
  assert.match(held, /ok {2}Polling works/, held);
  assert.match(held, /ok {2}Long polling works/, held);
});

test('a page asks for the diagnosis beside its own connection, also one of another origin', LONG, async () => {
  const contexts = [await browser.newContext(), await browser.newContext()];
  const context = contexts[0];
  const made = await libraryPage(context, server.base);
  await listen(made, { channels: ['asked'] });
  const abroad = await libraryPage(contexts[1], server.base.replace('127.0.0.1', 'localhost'), { script: server.base + '/client.js' });
  const complaints = [];
  abroad.on('console', line => line.type() === 'error' && complaints.push(line.text()));
  await listen(abroad, { channels: ['asked'] }, server.base);
  const diagnose = () => Promise.all([made, abroad].map(one => one.evaluate(() => new Promise(resolve => window.lt.diagnose(resolve)))));
  const works = report => report.findings.every(one => !one.transport || one.works);
  let [report, other] = await diagnose();
  // A busy machine may look like a slow path.
  for (let tries = 1; tries < 3 && !(works(report) && works(other)); tries++) [report, other] = await diagnose();
  assert.ok(other.text.includes(`server: ${server.base}, longtail`), other.text);
  assert.match(other.text, /Responses are not held back/);
  assert.deepEqual(complaints, []);
  await contexts[1].close();
  const byName = Object.fromEntries(report.findings.filter(one => one.transport).map(one => [one.transport, one.works]));
  assert.deepEqual(byName, Object.fromEntries(
    ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame', 'long-poll', 'jsonp', 'poll'].map(name => [name, true])));
  assert.match(report.text, /WebSocket works/);
  await publish(server.base, 'asked', 'still there');
  await until('it reads on', async () => (await seen(made)).join() === 'still there' || seen(made));
  await context.close();
});

test('the page of the README shows something at once', async () => {
  const html = /## In a page\n\n```html\n([^`]*)```/.exec(readFileSync(root + 'README.md', 'utf8'))[1];
  const fresh = await startServer();
  const files = http.createServer((request, answer) => {
    answer.setHeader('Content-Type', 'text/html');
    answer.end(html.replaceAll('http://127.0.0.1:8080', fresh.base));
  });
  await new Promise(resolve => files.listen(0, '127.0.0.1', resolve));
  const context = await browser.newContext();
  try {
    for (let count = 1; count < 3; count++) {
      const made = await context.newPage();
      await made.goto(`http://127.0.0.1:${files.address().port}/page.html`);
      for (const tab of context.pages()) {
        await until(`each tab shows ${count}`, async () => (await tab.textContent('#list')) === 'milk'.repeat(count) || tab.textContent('#list'));
      }
    }
  } finally {
    await context.close();
    files.close();
    fresh.stop();
  }
});
