// Opens the comparison page of `longtail demo` in Chromium: every lane moves and shows the same messages, difficult
// payloads arrive unchanged, pauses and changes of the transport do not lose messages, each kind of weather stops
// exactly the expected lanes, and the page shows the bytes.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { agree, lanes as lanesOf, listen, setRate as setRateOf } from './lanes.mjs';
import { pictures, startBrowser, startServer, until } from './support.mjs';

const NASTY = [
  '</script><script>window.hurt = 1</script><!-- <img src=x onerror="window.hurt = 2">',
  'line\rreturn\nfeed\r\nboth\u2028separator\u2029paragraph\u0000nul\u0085next',
  '--longtail-7d93a1f0c24e5b68--\r\nContent-Type: text/html\r\n\r\n{"type":"bye"}',
  'id: 1-1.x\ndata: {"type":"bye","code":4003}\n\nevent: bye\ndata: {}',
  { 'a </script> key': ['\u2028', '💧 žluťoučký 中文', '\\u0000 \\" \\\\', 1e21, -0.5, null, true, {}] },
  '',
  // These texts are not literals of JavaScript, or are different literals there: two of them are syntax errors in a
  // script.
  JSON.parse('{"__proto__":{"a":1},"b":2}'),
  JSON.parse('['.repeat(2000) + ']'.repeat(2000))
];

const STREAMS = ['multipart', 'forever-frame', 'xhr-stream', 'sse'];

let browser;
let demo;
let page;

const complaints = [];

before(async () => {
  mkdirSync(pictures, { recursive: true });
  demo = await startServer(['demo', '--tcp-listen', '127.0.0.1:0', '--heartbeat-seconds', '1']);
  browser = await startBrowser();
  page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  listen(page, complaints);
  page.on('request', request => { if (request.method() === 'POST' && request.url().includes('/publish?')) publishing.add(request); });
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, request => publishing.delete(request));
  await page.goto(demo.base + '/');
  await page.waitForSelector('#lanes .lane');
});

after(async () => {
  await browser?.close();
  demo?.stop();
});

const lanes = () => lanesOf(page);
const lane = async id => (await lanes()).find(lane => lane.id === id);
// The publishes of the page that are not answered yet. The entry of one that is on its way may come after an entry that
// the test publishes later.
const publishing = new Set();
async function setRate(rate) {
  await setRateOf(page, rate);
  if (!rate) await until('the publishes of the page are answered', async () => publishing.size === 0 || [...publishing].map(request => request.url()));
}
const allAgree = () => agree(page);

async function publish(data) {
  const answer = await fetch(demo.base + '/publish', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ channel: 'demo', event: 'awkward', data })
  });
  return (await answer.json()).messages[0].id;
}

// Switches weather on, and returns the lanes as they were before.
async function weather(...names) {
  const before = Object.fromEntries((await lanes()).map(lane => [lane.id, lane]));
  for (const name of names) await page.click(`[data-weather="${name}"]`);
  for (const name of names) await page.waitForSelector(`#weather[data-weather~="${name}"]`);
  return before;
}

async function clearSky() {
  await page.click('.clear');
  await page.waitForSelector('#weather[data-weather=""]');
  await setRate(0);
  const marker = await publish('after the rain');
  await until('every lane has come through the weather and lost nothing', async () => {
    const all = await lanes();
    return all.every(lane => lane.state === 'open' && lane.last === marker && !lane.lost && !lane.doubled) || all;
  });
  await setRate(5);
}

// Waits until the named lanes have some more messages.
const move = (names, from, by = 4) => until(`${names} move on`, async () => {
  const all = (await lanes()).filter(lane => names.includes(lane.id));
  return all.every(lane => lane.count >= from[lane.id].count + by) || all;
});

test('a lane for every transport, oldest first, and a command for the rest', async () => {
  assert.match(demo.said(), new RegExp(`^Open ${demo.base}/ in a browser\\.$`, 'm'), 'the line that says where');
  const info = await (await fetch(demo.base + '/info')).json();
  const library = await page.evaluate(() => Longtail.transports.map(transport => transport.name).filter(name => name !== 'tcp').sort());
  const offered = info.transports.filter(t => t.browser).map(t => t.name).sort();
  assert.deepEqual(library, offered, 'the library and the server do not have the same transports');
  assert.deepEqual((await lanes()).map(lane => lane.id).sort(), [...offered, 'tcp'].sort());
  const years = await page.$$eval('.lane .year', years => years.map(year => Number(year.textContent)));
  assert.deepEqual(years, [...years].sort());
  assert.match(await page.textContent('#lane-ndjson pre'), /^curl -N '.*\/ndjson\?channel=demo'$/);
});

test('all lanes move at once, with the same messages', async () => {
  // A lane gets the messages that are sent after it opened, and it may open while the page already publishes. So the
  // test compares the counts from a moment at which all lanes are open and no message is on its way.
  await setRate(0);
  await publish('all are open');
  await allAgree();
  // A publish of the page may still be on its way, so two readings in a row have to be the same.
  let before = {};
  await until('two looks at the counts to be the same', async () => {
    const counts = Object.fromEntries((await lanes()).map(lane => [lane.id, lane.count]));
    const last = new Set((await lanes()).map(lane => lane.last));
    const stands = JSON.stringify(counts) === JSON.stringify(before) && last.size === 1;
    before = counts;
    await new Promise(resolve => setTimeout(resolve, 500));
    return stands || counts;
  });
  const more = all => all.map(lane => lane.count - before[lane.id]);
  await setRate(5);
  await until('every lane has five more messages', async () => more(await lanes()).every(count => count >= 5) || lanes());
  await setRate(0);
  // The last messages may still be on their way.
  await until('every lane has got as many messages as the others', async () => {
    const all = await lanes();
    return new Set(more(all)).size === 1 || { more: more(all), all };
  });
  await allAgree();
  const all = await lanes();
  const protocols = Object.fromEntries(all.map(lane => [lane.id, lane.protocol]));
  assert.deepEqual([protocols.tcp, protocols.sse, protocols.ws], ['TCP', 'HTTP/1.1', 'WebSocket']);
});

test('awkward payloads arrive on every lane as they were sent', async () => {
  let id;
  for (const payload of NASTY) {
    id = await publish(payload);
    const shown = JSON.stringify(payload).slice(0, 500);
    await until('every lane has it', async () => {
      // Polling is slower, and shows the newest message that it has received.
      const wrong = (await lanes()).filter(lane => lane.id !== 'poll' && (lane.last !== id || lane.data !== shown));
      return wrong.length === 0 || wrong;
    });
    assert.equal(await page.evaluate(() => window.hurt), undefined);
  }
  await allAgree();
});

test('the real bytes are shown, with the headers of requests and answers', async () => {
  const bytes = async (id, ...wanted) => {
    await page.click(`#lane-${id} summary`);
    await publish('seen on the wire');
    await until(`the bytes of ${id}`, async () => {
      const text = await page.textContent(`#lane-${id} .byte-list`);
      return wanted.every(part => part.test(text)) || text.slice(-1500);
    });
    await page.click(`#lane-${id} summary`);
  };
  await bytes('long-poll', /GET \/long-poll\?channel=demo&cursor=\S+ HTTP\/1\.1\n/, /\nUser-Agent: /i, /HTTP\/1\.1 200 OK\n/, /etag: "/i,
    /\{"cursor":".*seen on the wire/);
  // The list is bounded: after some heartbeats the beginning of a connection is no longer in it.
  for (const state of ['paused', 'open']) {
    await page.click('#lane-tcp .pause');
    await until(`the lane is ${state}`, async () => (await lane('tcp')).state === state || lane('tcp'));
  }
  await bytes('tcp', /\{"channels":\["demo"\].*"type":"subscribe"\}/, /\{"type":"hello"/, /"data":"seen on the wire"\}/);
  await bytes('sse', /data: \{"id":".*seen on the wire/);
  await bytes('ws', /\\x81~?.*\{"id":".*seen on the wire/);
  // The page also shows difficult bytes as text here.
  assert.equal(await page.evaluate(() => window.hurt), undefined);
});

test('by keyboard: publishing, and a paused lane goes on from its cursor', async () => {
  for (const id of ['sse', 'tcp', 'forever-frame', 'ws', 'poll']) {
    await page.focus(`#lane-${id} .pause`);
    await page.keyboard.press('Enter');
    await until(`${id} is paused`, async () => {
      const { state } = await lane(id);
      return state === 'paused' || state;
    });
  }
  assert.match(await page.getAttribute('#lane-sse .pause', 'aria-label'), /^Resume /);
  const before = await lane('sse');
  for (const text of ['plain, not JSON', '{"b":1,"a":1.0}']) {
    await page.fill('[name=data]', text);
    await page.focus('[name=event]');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => /^Published as/.test(document.getElementById('outcome').textContent));
    await page.evaluate(() => { document.getElementById('outcome').textContent = ''; });
  }
  await until('long polling has both', async () => {
    const { data } = await lane('long-poll');
    return data === '{"b":1,"a":1}' || data;
  });
  assert.equal((await lane('sse')).count, before.count);
  for (const id of ['sse', 'tcp', 'forever-frame', 'ws', 'poll']) {
    await page.focus(`#lane-${id} .pause`);
    await page.keyboard.press('Space');
  }
  await allAgree();
  assert.equal((await lane('sse')).count, before.count + 2);
});

test('what is not for this page does not come to it, and a volatile message has no id', async () => {
  await page.fill('[name=data]', '"excluded"');
  await page.check('[name=exclude]');
  await page.click('#publish button[type=submit]');
  await page.waitForFunction(() => /^Published as/.test(document.getElementById('outcome').textContent));
  await page.uncheck('[name=exclude]');
  await page.fill('[name=data]', '"volatile"');
  await page.check('[name=volatile]');
  await page.click('#publish button[type=submit]');
  await until('the streams have the volatile one', async () => {
    const all = (await lanes()).filter(lane => [...STREAMS, 'ws', 'tcp'].includes(lane.id));
    return all.every(lane => lane.last === 'volatile' && lane.data === '"volatile"') || all;
  });
  await page.uncheck('[name=volatile]');
  const shown = await page.$$eval('#lanes .last', lines => lines.map(line => line.textContent).join('\n'));
  assert.doesNotMatch(shown, /excluded/);
});

test('large messages make the growing answers roll over, and nothing is lost', async () => {
  const rolling = (await (await fetch(demo.base + '/info')).json()).transports.filter(t => t.rollover).map(t => t.name);
  assert.ok(rolling.length >= 3, `these roll over: ${rolling}`);
  const before = Object.fromEntries((await lanes()).map(lane => [lane.id, lane.requests]));
  for (let n = 0; n < 12; n++) await publish('x'.repeat(40000) + n);
  await allAgree();
  const after = Object.fromEntries((await lanes()).map(lane => [lane.id, lane.requests]));
  for (const name of rolling) assert.ok(after[name] >= before[name] + 3, `${name}: ${before[name]} to ${after[name]} requests`);
});

test('one reader is taken through every transport and loses nothing', async () => {
  await setRate(10);
  const rungs = await page.$$eval('#rungs button', buttons => buttons.map(button => button.dataset.transport));
  assert.deepEqual(rungs.sort(), (await lanes()).map(lane => lane.id).sort());
  const count = async () => Number(await page.textContent('#hop-count'));
  for (const name of rungs) {
    const before = await count();
    await page.click(`#rungs [data-transport="${name}"]`);
    assert.equal(await page.getAttribute(`#rungs [data-transport="${name}"]`, 'aria-current'), 'step');
    await until(`it reads by ${name}`, async () => (await count()) >= before + 3 || { name, before, now: await count() });
  }
  // The reader also changes its transport by itself.
  const hops = Number(await page.textContent('#hop-hops'));
  await page.check('#hop-auto');
  await until('it goes on by itself', async () => Number(await page.textContent('#hop-hops')) > hops || hops);
  await setRate(0);
  const marker = await publish('the last');
  await until('all have the last one', async () => (await lanes()).every(lane => lane.last === marker) || { marker, lanes: await lanes() });
  assert.deepEqual([await page.textContent('#hop-lost'), await page.textContent('#hop-doubled')], ['0', '0']);
  await setRate(5);
});

test('so far the page has had no errors', () => {
  assert.deepEqual(complaints, []);
});

test('held back: streams fall silent; answers that end and WebSockets do not', async () => {
  await page.selectOption('[aria-label="Hold back: bytes"]', '65536');
  await weather('hold_bytes');
  assert.match(await page.textContent('#lesson'), /Long polling ends each answer/);
  await until('the streams are held back', async () => {
    const all = (await lanes()).filter(lane => STREAMS.includes(lane.id));
    return all.every(lane => lane.state === 'held' && /held back$/.test(lane.state_text)) || all;
  });
  const held = Object.fromEntries((await lanes()).map(lane => [lane.id, lane]));
  await move(['poll', 'long-poll', 'jsonp', 'ws', 'tcp'], held, 8);
  for (const lane of (await lanes()).filter(lane => STREAMS.includes(lane.id))) {
    // One message may have been on its way when the page reported the lane as held.
    const { count } = held[lane.id];
    assert.ok(lane.count <= count + 2, `${lane.id} went on from ${count} to ${lane.count}`);
  }
  await page.screenshot({ path: join(pictures, 'held.png') });
  await clearSky();
});

test('cut: long answers are cut off and reconnect, and polling does not notice', async () => {
  await page.selectOption('[aria-label="Cut: seconds"]', '2');
  const before = await weather('cut_seconds');
  await until('all that lasts was cut, and cut again when it had come back', async () => {
    const all = (await lanes()).filter(lane => [...STREAMS, 'ws', 'tcp'].includes(lane.id));
    return all.every(lane => lane.cuts >= before[lane.id].cuts + (['sse', 'ws'].includes(lane.id) ? 2 : 1)) || all;
  });
  assert.equal((await lane('poll')).cuts, 0);
  await clearSky();
});

test('only HTTP: the applet is refused, and nothing else', async () => {
  const before = await weather('http_only');
  await until('raw TCP is refused', async () => {
    const tcp = await lane('tcp');
    return (tcp.cuts >= before.tcp.cuts + 2 && tcp.state !== 'open') || tcp;
  });
  await move(['ws', ...STREAMS, 'poll'], Object.fromEntries((await lanes()).map(lane => [lane.id, lane])));
  await clearSky();
});

test('killed: a WebSocket opens and dies, again and again; by keyboard', async () => {
  const before = Object.fromEntries((await lanes()).map(lane => [lane.id, lane]));
  await page.focus('[data-weather=kill_websockets]');
  await page.keyboard.press('Space');
  await page.waitForSelector('[data-weather=kill_websockets][aria-pressed=true]');
  await until('the WebSocket was killed twice', async () => {
    const ws = await lane('ws');
    return ws.cuts >= before.ws.cuts + 2 || ws;
  });
  assert.equal((await lane('sse')).cuts, before.sse.cuts);
  await clearSky();
});

test('no Upgrade: the WebSocket cannot begin, and the rest can', async () => {
  await weather('strip_upgrade');
  await until('the WebSocket does not come about', async () => {
    const ws = await lane('ws');
    return (['waiting', 'connecting'].includes(ws.state) && ws.protocol === 'HTTP/1.1') || ws;
  });
  await move(['sse', 'xhr-stream', 'multipart', 'tcp'], Object.fromEntries((await lanes()).map(lane => [lane.id, lane])));
  await clearSky();
});

test('HTTP/1.0: no chunks and no WebSocket, and the streams run', async () => {
  await weather('http10');
  await until('they speak HTTP/1.0', async () => {
    const all = await lanes();
    const http = all.filter(lane => ['poll', 'long-poll', 'sse', 'xhr-stream', 'multipart'].includes(lane.id));
    return (http.every(lane => lane.protocol === 'HTTP/1.0') && all.find(lane => lane.id === 'ws').state !== 'open') || all;
  });
  await move(['sse', 'xhr-stream', 'multipart', 'poll'], Object.fromEntries((await lanes()).map(lane => [lane.id, lane])));
  await page.click('#lane-poll summary');
  await until('what the path rewrote a request to is shown', async () => {
    const text = await page.textContent('#lane-poll .byte-list');
    return /the path rewrote it to\s*GET \/poll\S* HTTP\/1\.0\n/.test(text) || text.slice(0, 2000);
  });
  await page.click('#lane-poll summary');
  await clearSky();
});

test('latency: everything is late, and comes', async () => {
  await page.selectOption('[aria-label="Latency: milliseconds"]', '300');
  await weather('latency_ms');
  await until('the lag is that of the path', async () => {
    const all = (await lanes()).filter(lane => ['sse', 'ws', 'tcp', 'long-poll'].includes(lane.id));
    return all.every(lane => lane.lag >= 300) || all;
  });
  await clearSky();
  await until('and it is gone', async () => {
    const { lag } = await lane('sse');
    return lag < 300 || lag;
  });
});

test('the page is accessible to screen readers', async () => {
  await until('the pictures say in words what they show', async () => {
    const said = await page.getAttribute('#lane-sse .lag-plot', 'aria-label');
    return /half within .* 99 of 100 within/.test(said) || said;
  });
  const nameless = await page.$$eval('button, input, select, textarea, [role=img], summary', elements => elements
    .filter(element => !(element.getAttribute('aria-label') || element.textContent.trim() || element.labels?.length))
    .map(element => element.outerHTML));
  assert.deepEqual(nameless, []);
  assert.equal(await page.$$eval('[id]', all => all.length - new Set(all.map(element => element.id)).size), 0, 'ids are there once');
  // Screen readers read only the results of the user's actions, and not text that changes by itself.
  assert.equal(await page.$$eval('.lane [role=status], .lane [aria-live]', all => all.length), 0);
  await page.focus('.skip');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'lanes');
});

test('the diagrams glide, and step where the user wants less motion', async () => {
  // The smallest of four distances by which the diagram moves. A busy machine draws few frames a second, so neither
  // their number nor the time between them is meaningful.
  const least = () => page.evaluate(() => new Promise(resolve => {
    const group = document.querySelector('#lane-tcp .diagram > g');
    const place = () => Number(/translate\((-?[\d.]+)/.exec(group.getAttribute('transform'))[1]);
    let at = null;
    const steps = [];
    const watching = new MutationObserver(() => {
      const now = place();
      if (at !== null) steps.push(Math.round(Math.abs(now - at)));
      at = now;
      if (steps.length < 4) return;
      watching.disconnect();
      resolve(Math.min(...steps));
    });
    watching.observe(group, { attributes: true, attributeFilter: ['transform'] });
  }));
  await page.evaluate(() => document.getElementById('lane-tcp').scrollIntoView());
  const gliding = await least();
  await page.emulateMedia({ reducedMotion: 'reduce' });
  const stepping = await least();
  await page.emulateMedia({ reducedMotion: 'no-preference' });
  // The diagram moves by 56 pixels per second. If it moved in steps, it would move once per second.
  assert.ok(gliding < 50 && stepping >= 50, `by ${gliding} pixels at a time, and by ${stepping}`);
});

test('pictures: light, dark, a projector and a phone', async () => {
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: join(pictures, 'light.png'), fullPage: true });
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  await page.screenshot({ path: join(pictures, 'dark.png'), fullPage: true });
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'no-preference' });
  for (const [width, height, name] of [[1280, 720, 'projector'], [640, 360, 'zoomed'], [390, 844, 'phone'], [320, 640, 'narrow']]) {
    await page.setViewportSize({ width, height });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    await page.screenshot({ path: join(pictures, name + '.png') });
    assert.ok(wide <= width, `the page is ${wide} pixels wide on a screen of ${width}`);
  }
});

test('in the weather the page has had no errors but broken connections', () => {
  const others = complaints.filter(text => !/^console: (Failed to load resource: net::ERR_|WebSocket connection to )/.test(text));
  assert.deepEqual(others, []);
});
