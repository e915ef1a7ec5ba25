// `lt.emit` in Chromium: events for an application, over a WebSocket, by requests, and by a form.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { LONG, startServer, startBrowser, until } from './support.mjs';

let server;
let browser;
let application;
// The calls that the application got, and its reactions to the next calls: functions of the call and the response.
let calls = [];
let rules = [];

before(async () => {
  application = http.createServer((request, response) => {
    let text = '';
    request.on('data', part => { text += part; });
    request.on('end', () => {
      const call = JSON.parse(text);
      calls.push({ ...call, cookie: request.headers.cookie });
      const rule = rules.shift();
      if (rule) return rule(call, response);
      response.end(JSON.stringify({ ack: [call.event, ...call.args] }));
    });
  });
  await new Promise(resolve => { application.listen(0, '127.0.0.1', resolve); });
  server = await startServer(['--hook-url', `http://127.0.0.1:${application.address().port}/hook`, '--hook-timeout', '20', '--heartbeat-seconds', '1']);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
  application?.close();
});

// A page with a connection that uses these transports, and is open.
async function connected(context, transports, options = {}) {
  calls = [];
  rules = [];
  const page = await context.newPage();
  await page.goto((options.origin ?? server.base) + '/healthz');
  await page.addScriptTag({ url: server.base + '/client.js' });
  await page.evaluate(([url, transports, more]) => {
    window.lt = Longtail.connect(url, { channels: 'todo', client: 'me', transports, ...more });
    window.ask = (...args) => new Promise(resolve => {
      window.lt.emit(args[0], args[1], (...answer) => resolve(answer), args[2]);
    });
  }, [options.origin ? server.base : '', transports, options.more ?? {}]);
  await until('it is open', async () => {
    const state = await page.evaluate(() => window.lt.state);
    return state === 'open' || state;
  });
  return page;
}

const ask = (page, ...args) => page.evaluate(args => window.ask(...args), args);

for (const transport of ['ws', 'long-poll']) {
  test(`events and their answers with ${transport}`, LONG, async () => {
    const context = await browser.newContext();
    await context.addCookies([{ name: 'sid', value: '7', url: server.base }]);
    const page = await connected(context, transport);
    if (transport === 'ws') {
      // The library has its commands after the first heartbeat.
      await until('the event goes over the socket', async () => {
        await ask(page, 'first', 1);
        return calls.at(-1).channels.join() === 'todo' || calls.at(-1).channels;
      });
      calls = [];
    }
    assert.deepEqual(await ask(page, 'addItem', { title: 'milk' }), [null, 'addItem', { title: 'milk' }]);
    assert.deepEqual(await ask(page, 'move', [1, 2], { args: true, channel: 'board:1' }), [null, 'move', 1, 2]);
    assert.deepEqual(await ask(page, 'nothing'), [null, 'nothing', null]);
    assert.deepEqual(calls.map(call => [call.client, call.cookie, call.channel]),
      [['me', 'sid=7', undefined], ['me', 'sid=7', 'board:1'], ['me', 'sid=7', undefined]]);
    assert.equal(new Set(calls.map(call => call.id)).size, 3);
    assert.deepEqual(calls[0].channels, transport === 'ws' ? ['todo'] : []);

    rules = [(call, response) => response.end('{"ack":{"one":1}}'), (call, response) => { response.statusCode = 204; response.end(); },
      (call, response) => response.end('{"refuse":{"message":"no milk","data":[1]}}'), (call, response) => response.end('{"join":["a"]}')];
    assert.deepEqual(await ask(page, 'e', 1), [null, { one: 1 }]);
    assert.deepEqual(await ask(page, 'e', 1), [null]);
    const [refused] = await ask(page, 'e', 1);
    assert.deepEqual([refused.code, refused.message, refused.data], ['forbidden', 'no milk', [1]]);
    assert.equal((await ask(page, 'e', 1))[0].code, 'no_session');
    const failing = (call, response) => { response.statusCode = 500; response.end(); };
    rules = [failing, failing];
    assert.equal((await ask(page, 'e', 1))[0].code, 'application_failed');
    await context.close();
  });

  test(`with ${transport}, an event is sent again with the same key after the network was gone`, LONG, async () => {
    const context = await browser.newContext();
    const page = await connected(context, transport);
    assert.equal((await ask(page, 'warm', 1))[0], null);
    calls = [];
    // The answer does not arrive, because the connection is cut while the application handles the event.
    let cut;
    rules = [(call, response) => { cut = () => response.end(JSON.stringify({ ack: ['first'] })); }];
    await page.evaluate(() => { window.answer = null; window.ask('addItem', 'milk').then(answer => { window.answer = answer; }); });
    await until('the application has it', () => calls.length === 1 || calls.length);
    await context.setOffline(true);
    if (transport === 'ws') await page.evaluate(() => { window.lt.pause(); window.lt.resume(); });
    await new Promise(resolve => setTimeout(resolve, 1000));
    await context.setOffline(false);
    cut();
    await until('it is answered', async () => {
      const answer = await page.evaluate(() => window.answer);
      return (answer && answer[0] === null) || [answer, calls];
    });
    assert.equal(new Set(calls.map(call => call.id)).size, 1, JSON.stringify(calls));
    await context.close();
  });
}

test('an event that cannot be sent is given up after some tries', LONG, async () => {
  const context = await browser.newContext();
  const page = await connected(context, 'long-poll');
  assert.equal((await ask(page, 'warm', 1))[0], null);
  let tries = 0;
  await context.route('**/event?*', route => { tries++; return route.abort(); });
  assert.equal((await ask(page, 'e', 1))[0].code, 'unreachable');
  assert.equal(tries, 6);
  await context.close();
});

test('where scripts may not send requests, an event goes by a form', LONG, async () => {
  const context = await browser.newContext();
  await context.addInitScript(() => { delete window.XMLHttpRequest; delete window.WebSocket; delete window.EventSource; delete window.JSON; });
  const page = await connected(context, 'jsonp', { origin: server.base.replace('127.0.0.1', 'localhost') });
  assert.deepEqual(await ask(page, 'addItem', { title: 'a "b" &=%' }), [null]);
  assert.deepEqual(await ask(page, 'move', [1, 2], { args: true }), [null]);
  await until('the application has them', () => calls.length === 2 || calls);
  assert.deepEqual(calls.map(call => [call.event, call.args, call.client, call.ack]),
    [['addItem', [{ title: 'a "b" &=%' }], 'me', false], ['move', [1, 2], 'me', false]]);
  await context.close();
});

test('without a hook the page is told', LONG, async () => {
  const plain = await startServer();
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(plain.base + '/healthz');
  await page.addScriptTag({ url: plain.base + '/client.js' });
  const [error] = await page.evaluate(() => new Promise(resolve => {
    window.lt = Longtail.connect('', { channels: 'todo' });
    window.lt.emit('e', 1, (...answer) => resolve(answer));
  }));
  assert.deepEqual([error.code, error.status ?? 404], ['no_hook', 404]);
  await context.close();
  plain.stop();
});
