// Tests a board of the ToDo application with two people in two browsers: each person sees the other person's changes
// without a reload, and their own changes once.
//   node --test todo.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { FRONTS, add, browser, complaints, edit, example, has, isDone, open, person, php, push, redisCli, redisPort, row,
  scenario, start, stop, titles, todo, until, work } from './todo-app.mjs';
import { LONG } from './support.mjs';

let redis;                      // a Redis that a test has started in place of the one of `run`
let ada;
let ben;
let cleo;                       // her requests are refused, and her browser shows that
let plain;                      // Ada without script

before(async () => {
  await start();
  ada = await person('ada');
  ben = await person('ben');
});

after(async () => {
  redis?.kill('SIGTERM');
  await stop();
});

test('every PHP file parses', async () => {
  const files = ['', 'lib', 'public'].flatMap(dir => readdirSync(join(example, dir))
    .filter(name => name.endsWith('.php')).map(name => join(example, dir, name)));
  assert.ok(files.length >= 12, `too few files: ${files}`);
  await Promise.all(files.map(file => new Promise((resolve, reject) => {
    const lint = spawn('php', ['-l', file], { stdio: 'ignore' });
    lint.on('exit', code => code ? reject(new Error('php -l ' + file)) : resolve());
  })));
});

test('two people on a board, over WebSocket and long polling', async () => {
  await open(ada, 12, { transport: 'ws' });
  await open(ben, 12, { transport: 'long-poll' });
  await scenario(ada, ben, 'Buy chalk');
  await scenario(ben, ada, 'Find the adapter');
});

test('the same over server-sent events and XHR streaming', async () => {
  await open(ada, 12, { transport: 'sse' });
  await open(ben, 12, { transport: 'xhr-stream' });
  await scenario(ada, ben, 'Buy chalk');
  await scenario(ben, ada, 'Find the adapter');
});

for (const [one, other] of [['backbone', 'angular'], ['ember', 'plain']]) {
  test(`the same with ${one} and ${other}`, async () => {
    await open(ada, 12, { front: one });
    await open(ben, 12, { front: other });
    await scenario(ada, ben, 'Buy chalk');
    await scenario(ben, ada, 'Find the adapter');
  });
}

test('a title is text in every front end, whatever it says', async () => {
  const nasty = [
    '<script>window.hurt = 1</script>',
    '{{1 + 1}} ${x} <%= x %>',
    '"><img src=x onerror="window.hurt = 2">',
    '</template></ul>&amp;lt; \u2028 žluťoučký 中文'
  ];
  // A line separator does not make a new line in a title.
  const shown = nasty.map(title => title.replace('\u2028', ' '));
  await open(ada, 13);
  for (const [n, title] of nasty.entries()) {
    await ada.fill('#new', title);
    await ada.press('#new', 'Enter');
    await has(ada, shown[n]);
  }
  for (const front of FRONTS) {
    // The rows that PHP has drawn and the front end takes over, and the rows that arrive in a message.
    await open(ben, 13, { front });
    for (const title of shown) await has(ben, title);
    await add(ada, front + shown.join(''));
    await has(ben, front + shown.join(''));
    for (const page of [ada, ben]) assert.equal(await page.evaluate(() => window.hurt), undefined);
  }
});

test('a message that comes twice, late or in the wrong order does no harm', async () => {
  await open(ada, 12);
  for (const front of ['plain', 'ember']) {
    await open(ben, 12, { front });
    await disorder(front);
  }
});

async function disorder(front) {
  const tell = (event, data) => {
    const { stdout } = redisCli('PUBLISH', 'push:board:12', JSON.stringify({ event, data }));
    assert.equal(stdout.trim(), '1', 'nobody heard the PUBLISH');
  };
  await add(ada, 'Order');
  await has(ben, 'Order');
  const id = Number(await row(ben, 'Order').getAttribute('data-id'));
  const { revision } = await (await ada.request.get(todo + '/items.php?board=12')).json();
  const item = (version, title) => ({ id, title, done: false, version, by: 'ada' });
  tell('itemChanged', item(revision - 1, 'Too old'));
  tell('itemAdded', item(revision, 'The same again'));
  await edit(ada, 'Order', box => box.getByText('Remove').click());
  await has(ben, 'Order', 0);
  // A message that was sent before the removal arrives after it.
  tell('itemChanged', item(revision, 'Back from the dead'));
  await add(ada, `After it, ${front}`);
  await has(ben, `After it, ${front}`);
  assert.deepEqual(await titles(ben), await titles(ada));
  await edit(ada, `After it, ${front}`, box => box.getByText('Remove').click());
  await has(ben, `After it, ${front}`, 0);
}

test('nothing between drawing the page and subscribing is lost', async () => {
  await open(ben, 12);
  // The browser draws the page, but loads its scripts only after the change.
  let release;
  const held = new Promise(resolve => { release = resolve; });
  await ada.route('**/assets/todo.js', async route => {
    await held;
    await route.continue();
  });
  const opened = ada.goto(`${todo}/board.php?id=12`);
  await ada.waitForSelector('#board', { state: 'attached' });
  assert.ok(JSON.parse(await ada.getAttribute('#board', 'data-settings')).cursor, 'PHP got no cursor from Longtail');
  await add(ben, 'In between');
  release();
  await opened;
  await ada.unroute('**/assets/todo.js');
  await has(ada, 'In between');
  // The same test for a page for which PHP could not get a cursor.
  await ada.route('**/assets/todo.js', async route => {
    const answer = await route.fetch();
    const without = `{ const { dataset } = document.getElementById('board');
      dataset.settings = JSON.stringify({ ...JSON.parse(dataset.settings), cursor: null }); }`;
    await add(ben, 'In between again');
    await route.fulfill({ response: answer, body: without + await answer.text() });
  });
  await ada.goto(`${todo}/board.php?id=12`);
  await ada.unroute('**/assets/todo.js');
  await has(ada, 'In between again');
  await edit(ben, 'In between again', box => box.getByText('Remove').click());
  await edit(ben, 'In between', box => box.getByText('Remove').click());
  await has(ada, 'In between', 0);
});

test('without script the forms do the same, and others see it', async () => {
  await open(ben, 12);
  plain = await person('ada', { javaScriptEnabled: false });
  await plain.goto(`${todo}/board.php?id=12`);
  await plain.fill('#new', 'By a form');
  await plain.click('.add button');
  assert.equal(new URL(plain.url()).search, '?id=12');
  await has(plain, 'By a form');
  await has(ben, 'By a form');
  await row(plain, 'By a form').locator('.tick').click();
  await isDone(plain, 'By a form', true);
  await isDone(ben, 'By a form', true);
  await edit(plain, 'By a form', async box => {
    await box.locator('[name=title]').fill('By another form');
    await box.getByText('Save').click();
  });
  await has(plain, 'By another form');
  await has(ben, 'By another form');
  await edit(plain, 'By another form', box => box.getByText('Remove').click());
  await has(plain, 'By another form', 0);
  await has(ben, 'By another form', 0);
  await plain.goto(`${todo}/index.php`);
  await plain.fill('#name', 'A board of its own');
  await plain.click('button.main');
  await plain.fill('#member', 'ben');
  await plain.click('.members button');
  assert.match(await plain.textContent('.members p'), /ada, ben/);
  assert.match(await plain.textContent('#notice'), /ben is on this board now/);
});

const ask = (page, body, headers = {}) => page.request.post(todo + '/authorize.php', { data: body, headers });

test('authorize.php: boards of one’s own, and nothing else', async () => {
  const allowed = async (page, channels, action = 'subscribe') => {
    const answer = await ask(page, { action, channels, client: null, transport: 'ws', ip: '127.0.0.1', origin: todo });
    assert.equal(answer.status(), 200);
    return await answer.json();
  };
  cleo = await person('cleo');
  assert.deepEqual(await allowed(ada, ['board:12']), { channels: ['board:12'], ttl: 60 });
  const many = ['board:14', 'board:12', 'board:99', 'other', 'board:12x', '', 7, ['board:12']];
  assert.deepEqual((await allowed(ada, many)).channels, ['board:12']);
  assert.deepEqual((await allowed(cleo, ['board:12', 'board:14'])).channels, ['board:14']);
  assert.deepEqual((await allowed(ada, ['board:12'], 'publish')).channels, [], 'only PHP publishes');
  for (const [name, body] of [['nonsense', 'x'], ['no channels', '{}'], ['a list', '[]']]) {
    const answer = await ask(ada, body, { 'Content-Type': 'application/json' });
    assert.equal(answer.status(), 400, name);
  }
  for (const headers of [{}, { Cookie: 'todo_session=' + 'a'.repeat(26) }]) {
    const body = '{"action":"subscribe","channels":["board:12"]}';
    assert.equal((await fetch(todo + '/authorize.php', { method: 'POST', body, headers })).status, 401);
  }
  assert.equal((await cleo.goto(todo + '/board.php?id=12')).status(), 404, 'the page of another’s board');
  assert.equal((await cleo.request.get(todo + '/items.php?board=12')).status(), 404);
});

test('Longtail asks: another’s board is refused to a browser', async () => {
  await open(cleo, 14);
  const outcomes = await cleo.evaluate(push => Promise.all(['ws', 'sse', 'long-poll'].map(transport => {
    return new Promise(resolve => {
      const lt = Longtail.connect(push, { channels: ['board:12'], credentials: true, transports: [transport] });
      lt.on('open', () => resolve('open'));
      lt.on('close', why => resolve(why.code));
      lt.on('error', why => resolve(why.code));
      // A page gets no information about a refused WebSocket, not even that it was refused.
      setTimeout(() => resolve('nothing'), 1500);
    });
  })), push);
  assert.ok(!outcomes.includes('open'), String(outcomes));
  const status = async headers => (await fetch(push + '/poll?channel=board:12', { headers })).status;
  const cookie = async page => (await page.context().cookies()).map(one => `${one.name}=${one.value}`).join('; ');
  assert.equal(await status({}), 401);
  assert.equal(await status({ Cookie: await cookie(cleo) }), 403);
  assert.equal(await status({ Cookie: await cookie(ada) }), 200);
});

test('a change needs the token, the membership and a POST', async () => {
  await open(ada, 12);
  const { csrf } = JSON.parse(await ada.getAttribute('#board', 'data-settings'));
  const headers = { Accept: 'application/json' };
  const change = async (page, form) => (await page.request.post(todo + '/change.php', { form, headers })).status();
  assert.equal(await change(ada, { board: 12, action: 'add', title: 'x' }), 403);
  assert.equal(await change(ben, { board: 12, action: 'add', title: 'x', csrf }), 403, 'the token of another');
  assert.equal(await change(ada, { board: 14, action: 'add', title: 'x', csrf }), 404);
  assert.equal(await change(ada, { board: 12, action: 'add', title: ' ', csrf }), 422);
  assert.equal(await change(ada, { board: 12, action: 'add', title: 'x'.repeat(201), csrf }), 422);
  assert.equal(await change(ada, { board: 13, action: 'remove', id: 1, csrf }), 404, 'an item of another board');
  assert.equal((await ada.request.get(todo + '/change.php', { headers })).status(), 405);
  const stranger = await fetch(todo + '/change.php', { method: 'POST', headers });
  assert.equal(stranger.status, 401);
  const head = await fetch(todo + '/sign-in.php');
  assert.match(head.headers.get('content-security-policy'), /default-src 'none'/);
  assert.match(head.headers.get('set-cookie'), /HttpOnly; SameSite=Lax/);
});

test('signing in gives the session a new id, and a wrong password does not', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(todo + '/sign-in.php');
  const id = async () => (await context.cookies()).find(one => one.name === 'todo_session').value;
  const before = await id();
  const attempt = async password => {
    await page.fill('[name=name]', 'ada');
    await page.fill('[name=password]', password);
    await page.click('button.main');
  };
  await attempt('wrong');
  assert.match(await page.textContent('[role=alert]'), /do not go together/);
  await attempt('demo');
  await page.waitForSelector('.boards');
  assert.notEqual(await id(), before);
  await page.click('.who button');
  await page.waitForSelector('[name=password]');
  const headers = { Accept: 'application/json' };
  assert.equal((await page.request.get(todo + '/items.php?board=12', { headers })).status(), 401);
  await context.close();
});

test('the pages had no errors', () => {
  assert.deepEqual(complaints.filter(line => !/^cleo: .*(401|403|404|WebSocket)/.test(line)), []);
});

test('Redis hangs, goes and comes back: everything is saved, and seen in the end', LONG, async () => {
  await open(ada, 12);
  await open(ben, 12);
  const pid = Number(readFileSync(join(work, 'redis.pid'), 'utf8'));
  process.kill(pid, 'SIGSTOP');
  const began = Date.now();
  await add(ada, 'While Redis hangs');
  const took = Date.now() - began;
  // PHP waits for a second. Without its own timeout, it would wait for a minute.
  assert.ok(took < 20000, `a hanging Redis holds the answer up for ${took} ms`);
  assert.match(await ada.textContent('#notice'), /Saved\. .*others will see it when they reload/);
  process.kill(pid, 'SIGCONT');
  process.kill(pid, 'SIGTERM');
  await until('Redis is gone', async () => redisCli('PING').status !== 0 || redisCli('PING').stdout);
  await add(ada, 'While Redis is gone');
  assert.match(await ada.textContent('#notice'), /Saved\. /);
  await plain.goto(`${todo}/board.php?id=12`);
  await plain.fill('#new', 'By a form, without Redis');
  await plain.click('.add button');
  await has(plain, 'By a form, without Redis');
  assert.match(await plain.textContent('#notice'), /Saved\. /);
  const others = await titles(ben);
  assert.ok(!others.includes('While Redis is gone'), `it cannot be known yet: ${others}`);
  const settings = ['--bind', '127.0.0.1', '--port', redisPort, '--save', '', '--dir', work];
  redis = spawn('redis-server', settings, { stdio: 'ignore' });
  await until('Redis is back', async () => redisCli('PING').status === 0 || redisCli('PING').stderr);
  // Longtail connects to Redis again by itself. Its log is empty now, so pages get a gap and read the board again;
  // without the gap, the next change would show them that versions are missing.
  await until('the other page has caught up without a reload', async () => {
    const all = await titles(ben);
    const missed = ['While Redis hangs', 'While Redis is gone', 'By a form, without Redis'];
    return missed.every(one => all.includes(one)) || all;
  });
  // The page may learn about the gap before Longtail has subscribed to Redis again, and before a node has the lease.
  await until('Longtail listens', async () => redisCli('PUBSUB', 'NUMPAT').stdout.trim() !== '0' || 'nobody listens');
  await add(ada, 'With Redis again');
  await has(ben, 'With Redis again');
  assert.ok(await ada.isHidden('#notice'), `no notice: ${await ada.textContent('#notice')}`);
});

test('a PUBLISH that never arrived is noticed at the next one', async () => {
  await open(ada, 13);
  await open(ben, 13);
  // Another program saves the item and does not publish a message.
  const files = ['config', 'db', 'boards'].map(name => `require '${join(example, 'lib', name)}.php';`).join('');
  assert.equal(php('-r', files + "add_item(13, 'Silently added');"), 0);
  await add(ada, 'Loudly added');
  await has(ben, 'Loudly added');
  await until('the silent one is there', async () => {
    const all = await titles(ben);
    return all.includes('Silently added') || all;
  });
  // An unexpected version makes the page read the board once, not for ever.
  let reads = 0;
  ben.on('request', request => { reads += /items\.php/.test(request.url()) ? 1 : 0; });
  const data = { id: 999999, title: 'Out of nowhere', done: false, version: 999999, by: 'nobody' };
  redisCli('PUBLISH', 'push:board:13', JSON.stringify({ event: 'itemAdded', data }));
  await until('the page has looked', async () => reads === 1 || reads);
  await ben.waitForTimeout(1500);
  assert.equal(reads, 1);
});

test('without Longtail the forms still work', async () => {
  const alone = await person('ada');
  await alone.route(push + '/**', route => route.abort());
  await alone.goto(`${todo}/board.php?id=13`);
  await add(alone, 'All by myself');
  await alone.reload();
  await has(alone, 'All by myself');
  await alone.context().close();
});
