// Published STOMP libraries against the server.
//   node --test stomp.mjs
import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { LONG, publish, startServer, until } from './support.mjs';

const require = createRequire(import.meta.url);
const WebSocket = require('ws-8');

let application, server, url;

before(async () => {
  application = createServer((request, response) => {
    let body = '';
    request.on('data', part => { body += part; });
    request.on('end', () => {
      const call = JSON.parse(body);
      const greeting = { content: `Hello, ${call.args?.[0]?.name}!` };
      response.end(JSON.stringify(call.type === 'event'
        ? { publish: [{ channel: '/topic/greetings', data: greeting }], send: [{ event: '/user/queue/reply', args: [greeting] }] } : {}));
    });
  });
  await new Promise(resolve => application.listen(0, '127.0.0.1', resolve));
  server = await startServer(['--stomp', '/stomp', '--stomp-app', '/app/', '--heartbeat-seconds', '1',
    '--hook-url', `http://127.0.0.1:${application.address().port}/`]);
  url = `${server.base.replace('http', 'ws')}/stomp`;
}, LONG);

after(() => {
  server?.stop();
  application?.closeAllConnections();
  application?.close();
});

// The libraries with a class Client, and those with a function `over`, in one form.
function modern(name) {
  return async options => {
    const { Client } = require(name);
    const client = new Client({
      webSocketFactory: () => new WebSocket(url, options.protocols ?? ['v12.stomp', 'v11.stomp', 'v10.stomp']),
      heartbeatIncoming: 1000, heartbeatOutgoing: 1000, reconnectDelay: 100,
      ...(options.debug && { debug: options.debug }),
      ...(options.binary && { forceBinaryWSFrames: true }),
      ...(options.split && { splitLargeFrames: true, maxWebSocketChunkSize: 1000 })
    });
    await new Promise((resolve, reject) => {
      client.onConnect = resolve;
      client.onStompError = frame => reject(new Error(frame.headers.message));
      client.onWebSocketError = reject;
      client.activate();
    });
    client.onStompError = options.onError ?? (() => {});
    return {
      subscribe: (destination, seen, headers) => client.subscribe(destination, seen, headers),
      send: (destination, body) => client.publish({ destination, body }),
      receipt: (id, done) => client.watchForReceipt(id, done),
      publish: frame => client.publish(frame),
      begin: () => client.begin(),
      end: () => client.deactivate()
    };
  };
}

function classic(make, send = (client, destination, body) => client.send(destination, {}, body)) {
  return async () => {
    const client = make();
    client.debug = () => {};
    await new Promise((resolve, reject) => client.connect({}, resolve, reject));
    return {
      subscribe: (destination, seen, headers) => client.subscribe(destination, seen, headers),
      send: (destination, body) => send(client, destination, body),
      end: () => new Promise(resolve => client.disconnect(resolve))
    };
  };
}

const libraries = {
  '@stomp/stompjs 7': modern('stompjs-7'),
  '@stomp/stompjs 6': modern('stompjs-6'),
  '@stomp/stompjs 5': modern('stompjs-5'),
  'stompjs 2.3': classic(() => {
    const { Stomp } = require('stompjs-2/lib/stomp');
    // In a page, the library takes these from the window.
    Object.assign(Stomp, { setInterval: (time, run) => setInterval(run, time), clearInterval });
    return Stomp.over(new WebSocket(url));
  }),
  'webstomp-client': classic(() => require('webstomp-client').over(new WebSocket(url)),
    (client, destination, body) => client.send(destination, body, {}))
};

describe('each library', { concurrency: true }, () => {
  for (const [name, connect] of Object.entries(libraries)) {
    test(`${name}: messages of clients, of programs and of the application`, LONG, async () => {
      const [one, two] = [await connect({}), await connect({})];
      const seen = { one: [], two: [], reply: [] };
      const place = `/topic/${name}`;
      one.subscribe(place, message => seen.one.push(message.body));
      one.subscribe('/user/queue/reply', message => seen.reply.push(JSON.parse(message.body).content));
      two.subscribe(place, message => { seen.two.push(message.body); message.ack?.(); }, { ack: 'client-individual' });
      const greetings = [];
      two.subscribe('/topic/greetings', message => greetings.push(JSON.parse(message.body).content));
      await until('both subscriptions are read', async () => {
        one.send(place, 'ready?');
        return seen.one.length > 0 && seen.two.length > 0;
      });
      seen.one.length = seen.two.length = 0;
      const bodies = ['Käse \u{1f600}', '{"a":[1, 2]}', '"text"', ''];
      for (const body of bodies) two.send(place, body);
      const wanted = list => list.filter(body => body !== 'ready?');
      await until('the messages are there', async () => wanted(seen.one).length === 4 && wanted(seen.two).length === 4);
      await publish(server.base, encodeURIComponent(place.replace(/[^A-Za-z0-9_.:/@-]/g, c => '=' + c.charCodeAt(0).toString(16).toUpperCase())), { n: 1 });
      await until('the message of a program is there', async () => wanted(seen.one).length === 5 && wanted(seen.two).length === 5);
      for (const list of [seen.one, seen.two]) assert.deepEqual(wanted(list), [...bodies, '{"n":1}']);
      one.send('/app/hello', JSON.stringify({ name }));
      await until('the application has answered', async () => seen.reply.length === 1 && greetings.includes(`Hello, ${name}!`));
      assert.deepEqual(seen.reply, [`Hello, ${name}!`]);
      await Promise.all([one.end(), two.end()]);
    });
  }
});

test('heart-beats, receipts, binary and cut frames, errors', LONG, async () => {
  let beats = 0;
  const errors = [];
  const client = await libraries['@stomp/stompjs 7']({
    binary: true, debug: text => { if (text === '<<< PONG') beats += 1; }, onError: frame => errors.push(frame.headers.message)
  });
  const cut = await libraries['@stomp/stompjs 7']({ split: true });
  const seen = [];
  client.subscribe('big', message => seen.push(message.body.length), { receipt: 'subscribed' });
  await new Promise(resolve => client.receipt('subscribed', resolve));
  cut.publish({ destination: 'big', body: 'x'.repeat(20000), headers: { receipt: 'sent' } });
  await new Promise(resolve => cut.receipt('sent', resolve));
  await until('the message and heart-beats are there', async () => seen[0] === 20000 && beats >= 2);
  client.begin();
  await until('the error is there', async () => errors.length > 0);
  assert.match(errors[0], /does not have transactions/);
  await Promise.all([client.end(), cut.end()]);
});
