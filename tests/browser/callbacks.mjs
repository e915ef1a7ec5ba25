// Pages of other sites and the server's callbacks, in Chromium: a foreign page must not make the server's answers call
// functions of an application with the user's rights (same-origin method execution). And the policies of our own pages.
// node --test callbacks.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { LONG, connectedPage, opened, pause, publish, seen, startBrowser, startServer, until } from './support.mjs';
import { startFront } from './front.mjs';

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

// The application: a button that deletes something.
const APP = '<!DOCTYPE html><body><button id="del" name="del" onclick="clicks += 1">Delete</button><script>clicks = 0</script>';
const SEC = ['sec-fetch-dest', 'sec-fetch-site', 'sec-fetch-mode', 'sec-fetch-user'];
const HEADERS = ['cross-origin-opener-policy', 'content-security-policy'];
const withoutGuard = text => text.replace(/<script>try\{if\(parent.*?<\/script>/, '');

const frame = callback => `/forever-frame?channel=a&callback=${callback}`;

// A window of the foreign page opens a second window and then loads the application. The second window loads the page
// of the frame.
async function asWindow(context, app, evil) {
  const first = await context.newPage();
  await first.goto(evil + '/evil');
  const opened = context.waitForEvent('page');
  await first.evaluate(() => { window.open('/evil'); });
  const second = await opened;
  await second.waitForLoadState();
  await first.evaluate(url => { location.href = url; }, app + '/app');
  await first.waitForURL(app + '/app');
  await second.evaluate(url => { location.href = url; }, app + frame('opener.del.click'));
  return first;
}

// The foreign page contains two frames: the application, and the page of the forever frame, which names the
// application's frame.
async function asSibling(context, app, evil) {
  const page = await context.newPage();
  await page.goto(evil + '/evil');
  await page.evaluate(([app, url]) => {
    for (const [name, src] of [['app', app], ['frame', url]]) {
      const made = document.createElement('iframe');
      made.name = name;
      made.src = src;
      document.body.appendChild(made);
    }
  }, [app + '/app', app + frame('app.del.click')]);
  await until('the application is there', () => page.frames().some(one => one.url() === app + '/app'));
  return page.frames().find(one => one.url() === app + '/app');
}

const WINDOW = [
  ['a browser that knows Sec-Fetch-Dest', {}],
  ['a browser that knows Cross-Origin-Opener-Policy only', { without: SEC, edit: withoutGuard }],
  ['an old browser, which has only the guard in the page', { without: [...SEC, ...HEADERS] }]
];
const SIBLING = [
  ['a browser that knows Sec-Fetch-Site', {}],
  ['a browser that knows frame-ancestors only', { without: SEC, edit: withoutGuard }],
  ['an old browser, which has only the guard in the page', { without: [...SEC, ...HEADERS] }]
];
const NOTHING = { without: [...SEC, ...HEADERS], edit: withoutGuard };

for (const [kind, open, cases] of [['a window', asWindow, WINDOW], ['a frame beside the application', asSibling, SIBLING]]) {
  for (const [what, options, clicks] of [...cases.map(one => [...one, 0]), ['(the attack works without all of these)', NOTHING, 1]]) {
    test(`${kind} presses no button: ${what}`, LONG, async () => {
      const front = await startFront(server.base, { '/app': APP }, options);
      const site = await startFront(server.base, { '/evil': '<!DOCTYPE html><body>' });
      const context = await browser.newContext();
      try {
        const app = await open(context, front.base, site.base.replace('127.0.0.1', 'localhost'));
        // The hello calls the function, and so does each message.
        await pause(1000);
        await publish(server.base, 'a', 1);
        if (clicks) await until('it was pressed', async () => (await app.evaluate(() => window.clicks)) > 0);
        else await pause(1500);
        assert.equal((await app.evaluate(() => window.clicks)) > 0, clicks > 0);
      } finally {
        await context.close();
        front.stop();
        site.stop();
      }
    });
  }
}

test('the library still reads by the frame, also beside a proxy that takes the headers away', LONG, async () => {
  for (const options of [{}, { without: SEC }, NOTHING]) {
    const front = await startFront(server.base, { '/app': APP }, options);
    const context = await browser.newContext();
    const page = await connectedPage(context, front.base, { channels: 'a', transports: 'forever-frame' }, { path: '/app' });
    await opened(page);
    await publish(server.base, 'a', 'read');
    await until('it came', async () => (await seen(page)).join() === 'read');
    await context.close();
    front.stop();
  }
});

test('the page of the frame is refused as a document, and calls nothing', async () => {
  for (const target of [frame('cb'), frame('cb') + '&cursor=bad', '/forever-frame?channel=%20&callback=cb', '/forever-frame']) {
    for (const dest of ['document', 'embed', 'object']) {
      const answer = await fetch(server.base + target, { headers: { 'Sec-Fetch-Dest': dest } });
      const text = await answer.text();
      assert.equal(answer.status, 403, target);
      assert.match(answer.headers.get('content-type'), /^text\/plain/);
      assert.equal(answer.headers.get('cross-origin-opener-policy'), 'same-origin');
      assert.doesNotMatch(text, /cb|<script/);
    }
  }
});

/* ---- our own pages ---- */

for (const path of ['/', '/status', '/diagnose', '/info']) {
  test(`${path} has a policy: a script that is put into it does not run`, LONG, async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints = [];
    page.on('pageerror', error => complaints.push(String(error)));
    page.on('console', line => line.type() === 'error' && complaints.push(line.text()));
    const answer = await page.goto(server.base + path);
    assert.match(answer.headers()['content-security-policy'], /frame-ancestors '(self|none)'/);
    await pause(3000);
    assert.deepEqual(complaints, []);
    await page.evaluate(() => {
      document.body.insertAdjacentHTML('beforeend', '<img src="data:,x" onerror="window.injected = 1">');
      document.body.appendChild(document.createElement('script')).text = 'window.injected = 2';
    });
    await pause(500);
    assert.equal(await page.evaluate(() => window.injected), undefined);
    await context.close();
  });
}
