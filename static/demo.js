// The comparison page: a lane for each transport that the server offers, all reading the same channel from the
// same cursor, so that every lane has to show the same sequence. The first lane that is a stream of its own
// (SSE where there is one) is what the others are compared with.
'use strict';

(() => {
  const CHANNEL = 'demo';
  const SHOWN = 4;
  const HOP_EVERY = 3000;
  const TURN = 4000;
  // A browser opens six connections a host over HTTP/1.1. One is left for publishing and short requests.
  const HELD_AN_ORIGIN = 5;
  const client = Longtail.newClientId();
  const byId = id => document.getElementById(id);

  const ABOUT = {
    'poll': 'Asks every two seconds; the answer comes at once, empty or not.',
    'long-poll': 'The request waits at the server until there is something to say.',
    'jsonp': 'A script element that calls back: works across origins in every browser there ever was.',
    'forever-frame': 'A hidden page that never finishes loading; each message is a script tag in it.',
    'xhr-stream': 'One answer that does not end, read while it grows, and begun anew now and then.',
    'multipart': 'An answer in parts, one part a message.',
    'sse': 'EventSource: the browser reconnects by itself and names the last id it saw.',
    'ws': 'WebSocket: frames both ways over one connection.',
    'tcp': 'Bare TCP, one JSON object a line. Java applets and Flash did this; a browser page cannot open such a connection.',
    'ndjson': 'One JSON object a line, with no padding, for programs.'
  };
  // Those that keep a connection of the browser's six busy.
  const HOLDS = new Set(['long-poll', 'jsonp', 'forever-frame', 'xhr-stream', 'multipart', 'sse']);
  const OWN_ORIGIN = new Set(['forever-frame', 'poll']);

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function asText(data) {
    try {
      return JSON.stringify(data);
    } catch {
      return 'nested too deeply to be shown';
    }
  }

  // Two sequences of ids side by side: what the reference lane has seen, and what this lane has. An id that the
  // reference has not got yet is kept until it has.
  const reference = { ids: [], at: new Map(), first: 0, watchers: [] };

  function referenceSaw(id) {
    if (reference.at.has(id)) return;
    reference.at.set(id, reference.first + reference.ids.length);
    reference.ids.push(id);
    if (reference.ids.length > 5000) {
      reference.at.delete(reference.ids.shift());
      reference.first += 1;
    }
    for (const watcher of reference.watchers) watcher.settle();
  }

  class Comparison {
    constructor(changed) {
      this.next = 0;
      this.lost = 0;
      this.disordered = 0;
      this.early = [];
      this.changed = changed;
      reference.watchers.push(this);
    }
    saw(id) {
      this.early.push(id);
      if (this.early.length > 5000) this.early.shift();
      this.settle();
    }
    settle() {
      while (this.early.length) {
        const place = reference.at.get(this.early[0]);
        if (place === undefined) break;
        this.early.shift();
        if (place < this.next) {
          this.disordered += 1;
        } else {
          this.lost += place - this.next;
          this.next = place + 1;
        }
      }
      this.changed();
    }
    // A gap that was announced is no loss: reading goes on with whatever comes next.
    restart() {
      this.next = reference.first + reference.ids.length;
      this.early = [];
    }
  }

  /* ---- lanes ---- */

  function lane(transport, base, start, isReference) {
    const box = make('section', 'lane');
    box.id = 'lane-' + transport.name;
    box.dataset.transport = transport.name;
    box.dataset.state = 'idle';
    const head = make('header');
    const title = make('h3', '', transport.name);
    title.id = box.id + '-title';
    box.setAttribute('aria-labelledby', title.id);
    const state = make('span', 'state', 'idle');
    head.append(title, state);

    const facts = make('dl', 'facts');
    const fact = name => {
      const pair = make('div');
      const value = make('dd', '', '0');
      pair.append(make('dt', '', name), value);
      facts.append(pair);
      return value;
    };
    const count = fact('messages');
    const requests = fact('requests');
    const lost = fact('lost');
    const doubled = fact('doubled');

    const cursor = make('p', 'cursor', 'cursor: ');
    const cursorText = make('span', 'mono', start);
    cursor.append(cursorText);
    const seen = make('ol', 'seen');
    seen.setAttribute('aria-label', 'Newest messages, the newest first');
    const foot = make('p', 'foot');
    const pause = make('button', '', 'Pause');
    pause.type = 'button';
    pause.setAttribute('aria-pressed', 'false');
    pause.setAttribute('aria-label', 'Pause ' + transport.name);
    foot.append(make('span', 'mono', base + transport.path), pause);
    box.append(head, make('p', 'about', ABOUT[transport.name] || ''), facts, cursor, seen, foot);
    byId('lanes').append(box);

    const lt = Longtail.connect(base, {
      channels: [CHANNEL], transports: [transport.name], cursor: start, client
    });
    const compare = isReference ? null : new Comparison(() => facing());
    let again = 0;

    function facing() {
      const missing = compare ? compare.lost : 0;
      count.textContent = lt.stats.messages;
      requests.textContent = lt.stats.requests;
      lost.textContent = missing;
      lost.classList.toggle('bad', missing > 0);
      again = lt.stats.repeats + (compare ? compare.disordered : 0);
      doubled.textContent = again;
      doubled.classList.toggle('bad', again > 0);
      cursorText.textContent = lt.cursor;
      box.dataset.gaps = lt.stats.gaps;
    }

    function show(item) {
      seen.prepend(item);
      while (seen.children.length > SHOWN) seen.lastChild.remove();
      facing();
    }

    lt.on('state', name => {
      box.dataset.state = name;
      state.textContent = name;
      facing();
    });
    lt.on('message', message => {
      if (message.id) {
        if (compare) compare.saw(message.id); else referenceSaw(message.id);
      }
      const item = make('li');
      item.dataset.id = message.id || '';
      item.append(
        make('span', 'id', message.id || 'volatile, no id'),
        make('span', 'what', message.channel + ' · ' + message.event),
        make('span', 'data', asText(message.data)));
      item.title = message.id || '';
      show(item);
    });
    lt.on('gap', gap => {
      // Where the lane that the others are compared with has a hole, there is nothing to compare with.
      for (const watcher of compare ? [compare] : reference.watchers) watcher.restart();
      const item = make('li');
      item.append(make('span', 'gap', 'gap: what followed ' + gap.from + ' is no longer kept'));
      show(item);
    });
    lt.on('error', error => {
      state.textContent = error.code + ': ' + (error.message || '');
    });
    lt.on('close', why => {
      state.textContent = 'closed: ' + (why.reason || why.message || why.code);
    });

    pause.addEventListener('click', () => {
      const on = lt.state !== 'paused';
      pause.setAttribute('aria-pressed', String(on));
      pause.textContent = on ? 'Resume' : 'Pause';
      pause.setAttribute('aria-label', pause.textContent + ' ' + transport.name);
      lt.byHand = on;
      if (on) lt.pause(); else lt.resume();
    });
    setInterval(facing, 1000);
    return lt;
  }

  // What a browser cannot open is shown as a command that can.
  function outside(transport, info) {
    const box = make('section', 'lane');
    box.id = 'lane-' + transport.name;
    const title = make('h3', '', transport.name === 'tcp' ? 'raw TCP' : transport.name);
    title.id = box.id + '-title';
    box.setAttribute('aria-labelledby', title.id);
    let command = `curl -N '${location.origin}${transport.path}?channel=${CHANNEL}'`;
    if (transport.name === 'tcp') {
      const [, host, port] = /^(.*):(\d+)$/.exec(info.tcp || '') || [];
      command = port
        ? `printf '%s\\n' '{"type":"subscribe","channels":["${CHANNEL}"]}' | nc ${host.replace(/^\[|\]$/g, '')} ${port}`
        : '';
    }
    box.append(title, make('p', 'about', ABOUT[transport.name] || ''));
    box.append(command ? make('pre', 'command mono', command) : make('p', 'quiet', 'This server has no TCP port open.'));
    byId('outside').append(box);
  }

  /* ---- the reader that hops ---- */

  function hopper(names, start) {
    const lt = Longtail.connect('', { channels: [CHANNEL], transports: [names[0]], cursor: start, client, interval: 500 });
    const compare = new Comparison(facing);
    const rungs = names.map(name => {
      const rung = make('li', '', name);
      byId('rungs').append(rung);
      return rung;
    });
    let at = 0;
    let hops = 0;

    function facing() {
      const doubled = compare.disordered + lt.stats.repeats;
      byId('hop-count').textContent = lt.stats.messages;
      byId('hop-hops').textContent = hops;
      byId('hop-lost').textContent = compare.lost;
      byId('hop-lost-box').classList.toggle('bad', compare.lost > 0);
      byId('hop-doubled').textContent = doubled;
      byId('hop-doubled-box').classList.toggle('bad', doubled > 0);
      rungs.forEach((rung, i) => {
        if (i === at) rung.setAttribute('aria-current', 'step'); else rung.removeAttribute('aria-current');
      });
    }

    lt.on('message', message => {
      if (message.id) compare.saw(message.id);
    });
    lt.on('gap', () => compare.restart());
    const pause = byId('hop-pause');
    pause.addEventListener('click', () => {
      const on = lt.state !== 'paused';
      pause.setAttribute('aria-pressed', String(on));
      pause.textContent = on ? 'Resume' : 'Pause';
      if (on) lt.pause(); else lt.resume();
    });
    setInterval(() => {
      if (lt.state === 'paused') return;
      at = (at + 1) % names.length;
      hops += 1;
      lt.use(names[at]);
      facing();
    }, HOP_EVERY);
    facing();
  }

  /* ---- origins ---- */

  async function reachable(origin) {
    try {
      const answer = await fetch(origin + '/healthz', { cache: 'no-store', signal: AbortSignal.timeout(2000) });
      return answer.ok;
    } catch {
      return false;
    }
  }

  // Other names of this same server, if it is on this machine: each has six connections of its own.
  async function otherOrigins() {
    const name = location.hostname;
    const local = name === 'localhost' || name === '127.0.0.1' || name === '[::1]' || name.endsWith('.localhost');
    if (!local || !location.port) return [];
    const names = ['127.0.0.1', 'localhost', 'a.localhost', 'b.localhost', 'c.localhost'].filter(other => other !== name);
    const found = await Promise.all(names.map(other => reachable(`${location.protocol}//${other}:${location.port}`)));
    return names.filter((_, i) => found[i]).map(other => `${location.protocol}//${other}:${location.port}`);
  }

  // Gives each transport an origin: '' is the page's own. Where there are not enough connections for all, those
  // that hold one take turns, each going on from its cursor.
  function spread(transports, origins) {
    const room = new Map([['', HELD_AN_ORIGIN - 1]]); // the hopping reader has one there
    for (const origin of origins) room.set(origin, HELD_AN_ORIGIN);
    const places = new Map();
    const crowded = [];
    const holders = transports.filter(t => HOLDS.has(t.name)).sort((a, b) => OWN_ORIGIN.has(b.name) - OWN_ORIGIN.has(a.name));
    let turn = 0;
    for (const transport of transports) places.set(transport.name, '');
    for (const transport of holders) {
      const open = [...room.keys()].filter(origin => room.get(origin) > 0 && (origin === '' || !OWN_ORIGIN.has(transport.name)));
      if (!open.length) {
        crowded.push(transport.name);
        continue;
      }
      // Others first, so that the page's own origin stays free for short requests.
      const rest = open.filter(origin => origin !== '');
      const chosen = OWN_ORIGIN.has(transport.name) || !rest.length ? '' : rest[turn++ % rest.length];
      places.set(transport.name, chosen);
      room.set(chosen, room.get(chosen) - 1);
    }
    return { places, turns: crowded.length ? holders.map(t => t.name).filter(n => places.get(n) === '') : [], held: HELD_AN_ORIGIN - 2 };
  }

  function takeTurns(lanes, held) {
    const queue = lanes.slice();
    for (const lt of queue.slice(held)) setTimeout(() => lt.pause(), 0);
    setInterval(() => {
      const rested = queue[held];
      const tired = queue.shift();
      queue.push(tired);
      if (!tired.byHand) tired.pause();
      if (rested && !rested.byHand) rested.resume();
    }, TURN);
  }

  /* ---- publishing ---- */

  const publisher = Longtail.connect('', { channels: [CHANNEL], client });
  publisher.pause(); // it only publishes

  function outcome(text, bad) {
    byId('outcome').textContent = text;
    byId('outcome').classList.toggle('bad', !!bad);
  }

  byId('publish').addEventListener('submit', event => {
    event.preventDefault();
    const fields = event.target.elements;
    let data = fields.data.value;
    try {
      data = JSON.parse(data);
    } catch { /* plain text */ }
    // As typed: numbers and the order of keys stay what they were. A text goes as a text.
    const text = typeof data === 'string' ? data : fields.data.value;
    const query = new URLSearchParams({ channel: fields.channel.value });
    if (fields.event.value) query.set('event', fields.event.value);
    if (fields.volatile.checked) query.set('volatile', '1');
    if (fields.exclude.checked) query.set('exclude', client);
    if (typeof data === 'string') query.set('as', 'text');
    fetch('/publish?' + query, { method: 'POST', headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body: text })
      .then(async answer => {
        const body = await answer.json();
        if (!answer.ok) return outcome(`${body.error.code}: ${body.error.message}`, true);
        outcome(body.messages[0].id ? 'Published as ' + body.messages[0].id : 'Published, volatile: it has no id');
      })
      .catch(() => outcome('The server did not answer.', true));
  });

  let ticks = 0;
  setInterval(() => {
    if (!byId('tick').checked) return;
    ticks += 1;
    publisher.publish(CHANNEL, { n: ticks, at: new Date().toISOString() }, { event: 'tick' }, error => {
      if (error) outcome(`${error.code}: ${error.message}`, true);
    });
  }, 1000);

  /* ---- begin ---- */

  async function begin() {
    const info = await (await fetch('/info', { cache: 'no-store' })).json();
    const first = await (await fetch('/poll?channel=' + CHANNEL, { cache: 'no-store' })).json();
    const known = new Set(Longtail.transports.map(t => t.name));
    const inPage = info.transports.filter(t => t.browser !== false && known.has(t.name));
    const others = info.transports.filter(t => !inPage.includes(t));
    const origins = await otherOrigins();
    const { places, turns, held } = spread(inPage, origins);
    const steady = inPage.find(t => t.name === 'sse') || inPage[0];
    const lanes = new Map();

    byId('server').textContent = `${inPage.length} transports in the browser, ${others.length} for programs.`;
    byId('spread').textContent = turns.length
      ? 'A browser opens six connections to one host. No other name of this server answers here, so the lanes that hold one take turns, each going on from its cursor.'
      : `A browser opens six connections to one host, so the lanes use ${new Set(places.values()).size} names of this server.`;
    for (const transport of inPage) {
      lanes.set(transport.name, lane(transport, places.get(transport.name), first.cursor, transport === steady));
    }
    for (const transport of others) outside(transport, info);
    if (turns.length) takeTurns(turns.map(name => lanes.get(name)), held);
    hopper(inPage.map(t => t.name), first.cursor);
  }

  window.addEventListener('load', () => {
    begin().catch(error => {
      byId('server').textContent = 'The server did not say what it offers (' + error.message + '). Reload to try again.';
    });
  });
})();
