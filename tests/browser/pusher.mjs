// Published Pusher clients and SDKs against one node and three nodes.
//   node --test pusher.mjs
import { describe, test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import Echo from 'laravel-echo';
import { startCluster } from './cluster.mjs';
import { LONG, SOON, startServer, until } from './support.mjs';

const require = createRequire(import.meta.url);
const clients = Object.fromEntries([8, 7, 6, 5, 4].map(version => [version, require(`pusher-js-${version}`)]));
const Sdk = require('pusher');

const isLong = process.env.LONGTAIL_LONG !== undefined;
const work = mkdtempSync(join(tmpdir(), 'longtail-pusher-'));
const app = { id: '1', key: 'app-key', secret: 'app-secret', client_events: true };
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString('base64');
const bases = {};
const stops = [];
const open = [];
let authorizer, authUrl;

const sdk = where => new Sdk({ appId: app.id, key: app.key, secret: app.secret, host: '127.0.0.1', port: new URL(bases[where]).port,
  useTLS: false, encryptionMasterKeyBase64 });

// What an application answers to its own clients: the signature for a channel, and for a user.
function authorize(path, form) {
  const url = new URL(path, 'http://x');
  const user = url.searchParams.get('user') ?? 'nobody';
  const [socket, channel] = [form.get('socket_id'), form.get('channel_name')];
  const signer = sdk('one node');
  if (url.pathname === '/user-auth') return signer.authenticateUser(socket, { id: user, user_info: { name: `user ${user}` } });
  return signer.authorizeChannel(socket, channel, channel.startsWith('presence-') ? { user_id: user, user_info: { name: `user ${user}` } } : undefined);
}

const webhooks = [];

before(async () => {
  authorizer = createServer((request, response) => {
    let body = '';
    request.on('data', part => { body += part; });
    request.on('end', () => {
      if (request.url !== '/webhooks') return response.end(JSON.stringify(authorize(request.url, new URLSearchParams(body))));
      webhooks.push({ headers: request.headers, rawBody: body });
      response.end();
    });
  });
  await new Promise(resolve => authorizer.listen(0, '127.0.0.1', resolve));
  authUrl = `http://127.0.0.1:${authorizer.address().port}`;
  const apps = join(work, 'apps.json');
  const events = ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event', 'cache_miss'];
  writeFileSync(apps, JSON.stringify([{ ...app, webhooks: [{ url: authUrl + '/webhooks', events }] }]));
  // With --open, the metrics do not need a key.
  const flags = ['--pusher-apps', apps, '--open'];
  const one = await startServer(flags);
  stops.push(() => one.child.kill('SIGKILL'));
  bases['one node'] = one.base;
  const cluster = await startCluster(3, flags);
  stops.push(cluster.stop);
  bases['three nodes'] = cluster.base;
});

after(() => {
  for (const client of open) client.disconnect();
  for (const stop of stops) stop();
  authorizer?.close();
  rmSync(work, { recursive: true, force: true });
});

// Waits for a promise, and names what did not come.
function soon(what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what} did not come`)), SOON); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const next = (source, event) => soon(event, new Promise(resolve => {
  const heard = (...args) => {
    source.unbind(event, heard);
    resolve(args);
  };
  source.bind(event, heard);
}));

function connect(version, where, user = '7') {
  const { hostname, port } = new URL(bases[where]);
  const client = new clients[version](app.key, { wsHost: hostname, wsPort: Number(port), forceTLS: false, encrypted: false, enabledTransports: ['ws'],
    cluster: 'mt1', disableStats: true, authEndpoint: `${authUrl}/auth?user=${user}`, userAuthentication: { endpoint: `${authUrl}/user-auth?user=${user}-${version}`, transport: 'ajax' } });
  open.push(client);
  return client;
}

async function subscribed(client, name) {
  const channel = client.subscribe(name);
  channel.bind('pusher:subscription_error', error => { throw new Error(`${name}: ${JSON.stringify(error)}`); });
  await next(channel, 'pusher:subscription_succeeded');
  return channel;
}

// `tests/run --all` runs each client against both. Otherwise, the newest one reads from one node, and all from three.
const cells = Object.keys(clients).reverse().flatMap(version => (isLong || version === '8' ? ['one node', 'three nodes'] : ['three nodes']).map(where => [Number(version), where]));

const PYTHON = `
import json, sys, pusher
app = pusher.Pusher(app_id='1', key='app-key', secret='app-secret', host='127.0.0.1', port=int(sys.argv[1]), ssl=False)
for n in range(300):
    app.trigger('python', 'n', {'n': n})
app.trigger_batch([{'channel': 'python', 'name': 'last', 'data': 'é'}])
print(json.dumps([app.channels_info(u'python')['channels'], app.channel_info('python', ['subscription_count']),
    app.users_info('presence-python')['users']]))
`;

// The tests mostly wait: a member counts for some seconds after it has left.
describe('Pusher', { concurrency: true }, () => {
  for (const [version, where] of cells) {
    test(`pusher-js ${version} and the SDK for Node, ${where}`, LONG, async () => {
      const server = sdk(where);
      const [one, two] = [connect(version, where, '7'), connect(version, where, '8')];
      const id = `${version}-${where.replace(' ', '-')}`;
      const names = ['', 'private-', 'presence-'].map(prefix => `${prefix}todo-${id}`);
      const channels = [];
      for (const name of names) channels.push(await subscribed(one, name));
      const presence = channels[2];
      assert.deepEqual([presence.members.count, presence.members.me], [1, { id: '7', info: { name: 'user 7' } }]);
      const added = next(presence, 'pusher:member_added');
      const others = await subscribed(two, names[2]);
      assert.equal(others.members.count, 2);
      assert.deepEqual(others.members.get('7'), { id: '7', info: { name: 'user 7' } });
      assert.deepEqual((await added)[0], { id: '8', info: { name: 'user 8' } });

      // Events of several channels come once, and in the order of the triggers.
      const count = isLong ? 900 : 300;
      const seen = [];
      const all = new Promise(resolve => {
        for (const channel of channels) channel.bind('App\\Events\\Number', data => { if (seen.push([channel.name, data.n]) === count) resolve(); });
      });
      for (let n = 0; n < count; n++) assert.equal((await server.trigger(names[n % 3], 'App\\Events\\Number', { n, text: 'é€😀' })).status, 200);
      await soon(`${count} events`, all);
      assert.deepEqual(seen, Array.from({ length: count }, (_, n) => [names[n % 3], n]));

      // The client that has caused an event does not get it.
      const [excluded, last] = [[], next(channels[0], 'last')];
      channels[0].bind('own', data => excluded.push(data));
      await server.trigger([names[0], names[2]], 'own', 1, { socket_id: one.connection.socket_id });
      await server.triggerBatch([{ channel: names[0], name: 'first', data: 'text' }, { channel: names[0], name: 'last', data: '1' }]);
      assert.equal((await last)[0], 1);
      assert.deepEqual(excluded, []);

      // An event of a client, with its user.
      const typing = next(presence, 'client-typing');
      assert.ok(others.trigger('client-typing', { on: true }));
      const [data, metadata] = await typing;
      assert.deepEqual([data, metadata], [{ on: true }, { user_id: '8' }]);

      // Version 4 decrypts only in browsers.
      if (version > 4) {
        const secret = await subscribed(one, `private-encrypted-${id}`);
        const plain = next(secret, 'secret');
        await server.trigger(secret.name, 'secret', { title: 'milk' });
        assert.deepEqual((await plain)[0], { title: 'milk' });
      }

      // A new reader of a cache channel gets the last event.
      const cache = one.subscribe(`cache-${id}`);
      await next(cache, version > 6 ? 'pusher:cache_miss' : 'pusher:subscription_succeeded');
      const first = next(cache, 'state');
      await server.trigger(cache.name, 'state', { n: 1 });
      assert.deepEqual((await first)[0], { n: 1 });
      assert.deepEqual((await next(two.subscribe(cache.name), 'state'))[0], { n: 1 });

      const about = async path => (await server.get({ path, params: { info: 'user_count,subscription_count' } })).json();
      await until('the counts of all nodes', async () => {
        const found = await about(`/channels/${names[2]}`);
        return (found.occupied && found.user_count === 2 && found.subscription_count === 2) || found;
      });
      const users = await (await server.get({ path: `/channels/${names[2]}/users` })).json();
      assert.deepEqual(users.users.map(user => user.id).sort(), ['7', '8']);
      const listed = await (await server.get({ path: '/channels', params: { filter_by_prefix: names[2], info: 'user_count' } })).json();
      assert.deepEqual(listed, { channels: { [names[2]]: { user_count: 2 } } });

      const removed = next(presence, 'pusher:member_removed');
      two.unsubscribe(names[2]);
      assert.deepEqual((await removed)[0], { id: '8', info: { name: 'user 8' } });
      assert.equal(presence.members.count, 1);

      if (version > 6) {
        // The tests run at the same time, and the end of a user's connections is for all nodes.
        const user = `7-${version}`;
        one.signin();
        await until('the sign-in', () => one.user.user_data?.id === user || one.user.user_data);
        const note = next(one.user, 'note');
        await server.sendToUser(user, 'note', { text: 'hello' });
        assert.deepEqual((await note)[0], { text: 'hello' });
        const { socket } = one.connection.connection.transport;
        const disconnected = soon('the end', new Promise(resolve => one.connection.bind('disconnected', resolve)));
        await server.terminateUserConnections(user);
        await disconnected;
        // The client closes a socket that is already closed. Its timer would keep this process for half a minute.
        clearTimeout(socket._closeTimer);
      }
      one.disconnect();
      two.disconnect();
    });
  }

  test('webhooks, which the SDK verifies', LONG, async () => {
    const client = connect(8, 'three nodes', '9');
    const channel = await subscribed(client, 'presence-webhooks');
    await next(client.subscribe('cache-webhooks'), 'pusher:cache_miss');
    channel.trigger('client-typing', { on: true });
    const server = sdk('three nodes');
    const told = () => webhooks.flatMap(request => server.webhook(request).getEvents()).filter(event => event.channel.endsWith('-webhooks'));
    await until('five webhooks', () => told().length === 5 || told());
    assert.deepEqual(told().map(event => event.name).sort(), ['cache_miss', 'channel_occupied', 'channel_occupied', 'client_event', 'member_added']);
    const { socket_id } = client.connection;
    assert.deepEqual(told().find(event => event.name === 'client_event'),
      { name: 'client_event', channel: channel.name, event: 'client-typing', data: '{"on":true}', socket_id, user_id: '9' });
    for (const request of webhooks) {
      assert.ok(server.webhook(request).isValid());
      const forged = { ...request, rawBody: request.rawBody.replace('"events":[', '"events":[{"name":"x"},') };
      assert.ok(!server.webhook(forged).isValid(), 'a changed body');
      const headers = { ...request.headers, 'x-pusher-signature': request.headers['x-pusher-signature'].replace(/^./, digit => digit === '0' ? '1' : '0') };
      assert.ok(!server.webhook({ ...request, headers }).isValid(), 'another signature');
    }
    client.disconnect();
    await until('the channel to be vacated', () => told().some(event => event.name === 'channel_vacated' && event.channel === channel.name) || told());
  });

  test('Laravel Echo', LONG, async () => {
    const where = 'three nodes';
    const [one, two] = ['7', '8'].map(user => new Echo({ broadcaster: 'pusher', client: connect(8, where, user), namespace: 'App.Events' }));
    const [told, channel] = [[], two.private('orders.1')];
    const heard = new Promise(resolve => channel.listen('Shipped', data => { if (told.push(data) === 2) resolve(); }));
    const whispered = new Promise(resolve => channel.listenForWhisper('typing', resolve));
    await soon('the channel', new Promise(resolve => channel.subscribed(resolve)));
    const own = one.private('orders.1');
    await soon('the channel', new Promise(resolve => own.subscribed(resolve)));
    for (const n of [1, 2]) await sdk(where).trigger('private-orders.1', 'App\\Events\\Shipped', { n }, { socket_id: one.socketId() });
    await soon('two events', heard);
    assert.deepEqual(told, [{ n: 1 }, { n: 2 }]);
    own.whisper('typing', { name: 'A' });
    assert.deepEqual(await soon('a whisper', whispered), { name: 'A' });
    const room = one.join('room.1');
    const here = await soon('the members', new Promise(resolve => room.here(resolve)));
    assert.deepEqual(here, [{ name: 'user 7' }]);
    const joining = new Promise(resolve => room.joining(resolve));
    const leaving = new Promise(resolve => room.leaving(resolve));
    two.join('room.1');
    assert.deepEqual(await soon('a member', joining), { name: 'user 8' });
    two.leave('room.1');
    assert.deepEqual(await soon('the end of a member', leaving), { name: 'user 8' });
    one.disconnect();
    two.disconnect();
  });

  test('the SDK for Python', { ...LONG, skip: isLong ? false : 'runs with LONGTAIL_LONG' }, async () => {
    const run = promisify(execFile);
    await run('python3', ['-m', 'venv', 'venv'], { cwd: work });
    await run('venv/bin/pip', ['install', '--quiet', 'pusher==3.3.4'], { cwd: work });
    const client = connect(8, 'three nodes');
    const channel = await subscribed(client, 'python');
    await subscribed(client, 'presence-python');
    const seen = [];
    channel.bind('n', data => seen.push(data.n));
    const last = next(channel, 'last');
    const { stdout } = await run('venv/bin/python', ['-c', PYTHON, new URL(bases['three nodes']).port], { cwd: work });
    assert.equal((await last)[0], 'é');
    assert.deepEqual(seen, [...Array(300).keys()]);
    assert.deepEqual(JSON.parse(stdout), [{ python: {} }, { occupied: true, subscription_count: 1 }, [{ id: '7' }]]);
    client.disconnect();
  });
});
