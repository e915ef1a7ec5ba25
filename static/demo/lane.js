// A lane: one transport, its reader, and all figures that the page shows about it.
'use strict';

(() => {
  // The milliseconds for which the times of requests are kept, and the number of arrival times that are kept. An
  // arrival time is kept until the page knows when the message was sent.
  const MINUTE = 60000;
  const RECENT = 200;
  // In milliseconds: the time for which the lane shows a cut, and the time after which bytes count as held back.
  const CUT_SHOWN = 2500;
  const HELD_AFTER = 400;

  const WORDS = { idle: 'idle', connecting: 'connecting', open: 'open', waiting: 'waiting to try again', paused: 'paused', closed: 'closed' };

  function facts(box, names) {
    const values = {};
    for (const [name, label, title] of names) {
      const pair = Demo.make('div');
      values[name] = Demo.make('dd', '', '–');
      const term = Demo.make('dt', '', label);
      if (title) term.title = title;
      pair.append(term, values[name]);
      box.append(pair);
    }
    return values;
  }

  // `id`: the key of the lane's story; `base`: the server to connect to; `hasWire`: whether the server reports the
  // bytes on the path.
  Demo.Lane = class {
    constructor({ id, transport, base, cursor, hasWire, hasPath }) {
      const story = Demo.STORY[id] || { year: '', title: id, by: '', why: '', cost: '', hit: [] };
      Object.assign(this, { id, transport, base, story });
      this.lags = new Demo.Lags();
      this.comparison = new Demo.Comparison();
      this.requests = [];
      this.began = Date.now();
      this.counted = 0;
      this.bytes = hasWire ? 0 : null;
      this.arrivals = new Map();
      this.held = { bytes: 0, since: Infinity };
      this.cutAt = 0;
      this.cutWord = '';
      this.error = '';
      this.build(story, hasWire, hasPath);
      this.log = new Demo.ByteLog(this.details, this.byteList);
      this.connect(cursor, hasWire);
    }

    build(story, hasWire, hasPath) {
      const { make } = Demo;
      const box = this.box = make('article', 'lane');
      box.id = 'lane-' + this.id;
      box.dataset.transport = this.transport;
      box.dataset.state = 'idle';

      const about = make('div', 'about');
      const title = make('h3');
      title.id = box.id + '-title';
      box.setAttribute('aria-labelledby', title.id);
      title.append(make('span', 'year', String(story.year)), document.createTextNode(' ' + story.title + ' '));
      this.state = make('span', 'state', 'idle');
      this.protocol = make('span', 'protocol', '');
      const line = make('p', 'by', story.by + ' ');
      line.append(this.protocol);
      this.pause = make('button', 'pause', 'Pause');
      this.pause.type = 'button';
      this.pause.setAttribute('aria-label', 'Pause ' + story.title);
      this.pause.addEventListener('click', () => this.turn());
      const head = make('div', 'head');
      head.append(title, this.pause);
      about.append(head, line, make('p', 'why', story.why), make('p', 'cost', story.cost));

      const middle = make('div', 'picture');
      this.diagram = new Demo.Diagram(`${story.title}: requests and answers of the last seconds`, hasPath, this.id === 'tcp' ? 'applet' : 'browser');
      this.last = make('p', 'last mono', 'No message yet.');
      this.cursor = make('span', 'mono', '');
      const place = make('p', 'place', 'cursor ');
      place.append(this.cursor);
      const row = make('div', 'now');
      row.append(this.state, this.last, place);
      middle.append(this.diagram.svg, row);

      const figures = make('div', 'figures');
      const list = make('dl', 'facts');
      this.facts = facts(list, [
        ['p50', 'lag p50', 'Half of this page’s messages in the last minute arrived within this time'],
        ['p99', 'lag p99', '99 of 100 messages arrived within this time'],
        ['rate', 'req/min', 'Requests a minute'],
        ['size', 'B/message', hasWire ? 'All bytes in both directions with headers, divided by the number of messages' : 'Start the server as longtail demo to count bytes'],
        ['count', 'messages'],
        ['gaps', 'gaps', 'The server announced that the lane may have missed messages'],
        ['lost', 'lost'],
        ['doubled', 'doubled']
      ]);
      this.plot = new Demo.LagPlot(`Lag of ${story.title}`);
      figures.append(list, this.plot.box);

      const details = this.details = make('details', 'bytes');
      details.append(make('summary', '', hasWire ? 'Bytes on the wire' : 'Requests'));
      this.byteList = make('ol', 'byte-list mono');
      this.byteList.tabIndex = 0;
      this.byteList.setAttribute('aria-label', 'Bytes of ' + story.title + ', the newest last');
      details.append(this.byteList);
      box.append(about, middle, figures, details);
    }

    connect(cursor, hasWire) {
      const lt = this.lt = Demo.reader(this.base, [this.transport], cursor);
      lt.on('message', message => this.heard(message));
      lt.on('gap', () => {
        this.comparison.restart();
        this.box.dataset.gapped = 'true';
      });
      lt.on('state', () => {
        if (lt.state === 'open') this.error = '';
        this.face();
      });
      lt.on('error', error => { this.error = error.message || error.code; });
      lt.on('close', why => { this.error = why.reason || why.message || why.code; });
      if (hasWire) {
        Demo.follow(this, (what, value) => {
          if (what === 'bytes') this.bytes += value;
          if (what === 'held') this.held = value;
          if (what === 'protocol') Demo.say(this.protocol, value);
          if (what === 'cut') {
            this.cutAt = Date.now();
            this.cutWord = value;
            this.box.dataset.cuts = Number(this.box.dataset.cuts || 0) + 1;
          }
          this.face();
        });
        if (this.transport === 'tcp') Demo.say(this.protocol, 'TCP');
      } else {
        this.watch(lt);
      }
    }

    // Without reports from the server, the lane shows the events that a script can see.
    watch(lt) {
      let span = null;
      Demo.observe(lt, (what, count) => {
        const now = Date.now();
        if (what === 'request') {
          this.diagram.end(span, now);
          span = this.diagram.begin(now);
          this.diagram.arrow(now, 'browser', now, 'server', 'request');
          this.log.add('up', `→ GET ${this.base || Demo.home}/${this.transport}?channel=${Demo.CHANNEL}&cursor=${lt.cursor}`);
        } else if (what === 'end') {
          this.diagram.end(span, now);
        } else {
          const isNews = what === 'message' || (what === 'batch' && count > 0);
          this.diagram.arrow(now, 'server', now, 'browser', isNews ? 'message' : 'control', isNews ? count : 0, count > 1 ? '×' + count : '');
          this.log.add('down', what === 'batch' ? `← a batch of ${count}` : `← a ${what === 'message' ? 'message' : 'sign of life'}`);
          if (what === 'batch') this.diagram.end(span, now);
        }
      });
    }

    heard(message) {
      const now = Date.now();
      if (message.id) {
        this.comparison.saw(message.id);
        const sent = Demo.sent.get(message.id);
        if (sent !== undefined) {
          this.took(now, sent);
        } else {
          this.arrivals.set(message.id, now);
          if (this.arrivals.size > RECENT) this.arrivals.delete(this.arrivals.keys().next().value);
        }
      }
      this.newest = message;
      this.face();
    }

    // Called when the page knows the time at which its message was sent.
    wasSent(id, time) {
      const arrived = this.arrivals.get(id);
      if (arrived === undefined) return;
      this.arrivals.delete(id);
      this.took(arrived, time);
    }

    took(arrived, sent) {
      this.lags.add(arrived, arrived - sent);
      this.box.dataset.lag = arrived - sent;
    }

    turn() {
      const pausing = this.lt.state !== 'paused';
      if (pausing) this.lt.pause(); else this.lt.resume();
      this.isPaused = pausing;
      Demo.say(this.pause, pausing ? 'Resume' : 'Pause');
      this.pause.setAttribute('aria-label', `${pausing ? 'Resume' : 'Pause'} ${this.story.title}`);
      this.face();
    }

    // When the weather changes, a reader that waits for its next attempt makes the attempt at once.
    nudge() {
      if (this.lt.state === 'waiting' || this.lt.state === 'connecting') this.lt.use([this.transport]);
    }

    // Shows the new state a little later. If the lane showed each event at once, the text would change too fast to
    // read.
    face() {
      if (this.isFacing) return;
      this.isFacing = true;
      setTimeout(() => {
        this.isFacing = false;
        this.show();
      }, 60);
    }

    show() {
      const { lt, box } = this;
      const now = Date.now();
      while (this.counted < lt.stats.requests) {
        this.counted += 1;
        this.requests.push(now);
      }
      while (this.requests.length && now - this.requests[0] > MINUTE) this.requests.shift();
      const span = Math.min(MINUTE, Math.max(1000, now - this.began));
      const isHeld = this.held.bytes > 0 && now - this.held.since > HELD_AFTER;
      const isCut = now - this.cutAt < CUT_SHOWN;
      const state = lt.state === 'paused' ? 'paused' : isHeld ? 'held' : isCut ? 'cut' : lt.state;
      box.dataset.state = state;
      box.dataset.held = this.held.bytes;
      Demo.say(this.state, state === 'held' ? `${Demo.size(this.held.bytes)} held back`
        : state === 'cut' ? `${this.cutWord} by the path`
          : WORDS[state] + (this.error && state !== 'open' && state !== 'paused' ? ': ' + this.error : ''));
      const doubled = lt.stats.repeats + this.comparison.disordered;
      Demo.say(this.facts.rate, String(Math.round(this.requests.length * MINUTE / span)));
      Demo.say(this.facts.size, this.bytes === null || !lt.stats.messages ? '–' : String(Math.round(this.bytes / lt.stats.messages)));
      Demo.say(this.facts.count, String(lt.stats.messages));
      Demo.say(this.facts.gaps, String(lt.stats.gaps));
      Demo.say(this.facts.lost, String(this.comparison.lost));
      Demo.say(this.facts.doubled, String(doubled));
      this.facts.lost.classList.toggle('bad', this.comparison.lost > 0);
      this.facts.doubled.classList.toggle('bad', doubled > 0);
      Object.assign(box.dataset, { count: lt.stats.messages, lost: this.comparison.lost, doubled, gaps: lt.stats.gaps, requests: lt.stats.requests });
      Demo.say(this.cursor, String(lt.cursor));
      if (this.newest) {
        const data = Demo.asText(this.newest.data);
        box.dataset.last = this.newest.id || 'volatile';
        box.dataset.data = data.length > 500 ? data.slice(0, 500) : data;
        Demo.say(this.last, `${this.newest.event} ${box.dataset.data}`);
        this.last.title = this.newest.id || 'volatile, without an id';
      }
    }

    // Called once a second.
    tick(now) {
      this.show();
      const { p50, p99 } = this.plot.draw(this.lags, now);
      Demo.say(this.facts.p50, Demo.time(p50));
      Demo.say(this.facts.p99, Demo.time(p99));
      if (this.bytes === null) this.nameProtocol();
      return { id: this.id, title: this.story.title, p50, p99 };
    }

    // Shows the HTTP version that the browser and the server agreed on, if the browser reports it. The browser reports
    // a stream only when the stream has ended.
    nameProtocol() {
      const path = new URL((this.base || Demo.home) + '/' + this.transport, location.href).href;
      const found = performance.getEntriesByType('resource').filter(entry => entry.name.startsWith(path) && entry.nextHopProtocol).pop();
      const home = this.base === '' && this.transport !== 'ws' ? performance.getEntriesByType('navigation')[0] : null;
      const name = (found || home || {}).nextHopProtocol || '';
      Demo.say(this.protocol, { h2: 'HTTP/2', 'http/1.1': 'HTTP/1.1', 'http/1.0': 'HTTP/1.0' }[name] || name);
    }
  };
})();
