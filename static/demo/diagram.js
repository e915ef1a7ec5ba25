// A sequence diagram whose time runs to the right; the right edge is the present. One line is the browser and one is
// the server. In a lane with weather, a line between them is the path. An arrow appears at the moment of its event, and
// then moves to the left.
'use strict';

(() => {
  const PIXELS_A_SECOND = 56;
  // Milliseconds between two moves. The time is so short that the movement looks smooth.
  const EVERY = 50;
  const MOST = 600;
  const diagrams = new Set();

  const isSeen = new IntersectionObserver(entries => {
    for (const entry of entries) entry.target.diagram.isSeen = entry.isIntersecting;
  });

  let moved = 0;
  function move() {
    const now = Date.now();
    if (now - moved >= (Demo.isStill() ? 1000 : EVERY)) {
      moved = now;
      for (const diagram of diagrams) diagram.move(now);
    }
    requestAnimationFrame(move);
  }
  requestAnimationFrame(move);

  Demo.Diagram = class {
    constructor(title, hasPath, reader) {
      this.start = Date.now();
      this.lines = hasPath ? { browser: 20, path: 66, server: 112 } : { browser: 20, server: 112 };
      this.things = [];
      this.open = new Set();
      this.width = 0;
      this.svg = Demo.svg('svg', { class: 'diagram', role: 'img', height: 128, 'aria-label': title });
      this.svg.diagram = this;
      this.moving = Demo.svg('g');
      for (const [name, y] of Object.entries(this.lines)) {
        this.svg.append(Demo.svg('line', { class: 'life life-' + name, x1: 0, x2: '100%', y1: y, y2: y }));
      }
      // The time since which the path has held bytes back; null if it does not hold bytes back.
      this.heldSince = null;
      this.holding = this.moving.appendChild(Demo.svg('line', { class: 'held', y1: this.lines.path || 0, y2: this.lines.path || 0 }));
      this.svg.append(this.moving);
      for (const [name, y] of Object.entries(this.lines)) {
        this.svg.append(Demo.svg('text', { class: 'life-name', x: 4, y: y - 4 }, name === 'browser' ? reader : name));
      }
      new ResizeObserver(() => { this.width = this.svg.clientWidth; }).observe(this.svg);
      isSeen.observe(this.svg);
      diagrams.add(this);
    }

    x(time) {
      return (time - this.start) / 1000 * PIXELS_A_SECOND;
    }

    put(until, element) {
      this.things.push({ until, element });
      if (this.things.length > MOST) this.things.shift().element.remove();
      this.moving.append(element);
      return element;
    }

    // Draws an arrow from one line to another. Each end has its own time. `weight`: the number of messages that the
    // arrow represents; `title`: the tooltip.
    arrow(fromTime, from, toTime, to, kind, weight, label, title) {
      const beside = this.beside(fromTime, to === 'server');
      const [x1, x2, y1, y2] = [this.x(fromTime) + beside, this.x(toTime) + beside, this.lines[from], this.lines[to]];
      const group = Demo.svg('g', { class: 'arrow ' + kind });
      if (title) group.append(Demo.svg('title', {}, title));
      const width = Math.min(5, 1.2 + 0.8 * Math.log2(1 + (weight || 0)));
      group.append(Demo.svg('line', { x1, y1, x2, y2, 'stroke-width': width }));
      const length = Math.hypot(x2 - x1, y2 - y1) || 1;
      const [dx, dy] = [(x2 - x1) / length, (y2 - y1) / length];
      const [bx, by] = [x2 - dx * 8, y2 - dy * 8];
      const half = 2.5 + width;
      group.append(Demo.svg('path', { d: `M${x2} ${y2}L${bx - dy * half} ${by + dx * half}L${bx + dy * half} ${by - dx * half}Z` }));
      if (label) group.append(Demo.svg('text', { x: x2 + 5, y: (y1 + y2) / 2 + 4 }, label));
      return this.put(toTime, group);
    }

    // Returns the distance by which an arrow is moved aside, so that it does not cover the previous arrow.
    beside(time, isDown) {
      const x = this.x(time);
      const last = this.latest;
      const isClose = last && x - last.x < 7;
      const at = isClose ? Math.min(x + 6, last.isDown === isDown ? last.x : last.x + 6) : x;
      this.latest = { x: Math.max(x, at), isDown };
      return this.latest.x - x;
    }

    // Draws the part of an arrow that ends at a line before its target, without an arrowhead.
    stub(time, from, to, kind, title) {
      const x = this.x(time) + this.beside(time, false);
      const group = Demo.svg('g', { class: 'stub ' + kind });
      group.append(Demo.svg('title', {}, title));
      group.append(Demo.svg('line', { x1: x, x2: x, y1: this.lines[from], y2: this.lines[to] }));
      group.append(Demo.svg('rect', { x: x - 3, y: this.lines[to] - 3, width: 6, height: 6 }));
      return this.put(time, group);
    }

    // Draws how long bytes waited on the path.
    wait(from, to) {
      const y = this.lines.path;
      return this.put(to, Demo.svg('line', { class: 'held', x1: this.x(from), x2: this.x(to), y1: y, y2: y }));
    }

    // Draws a cut or a refusal.
    cross(time, label) {
      const [x, y] = [this.x(time), this.lines.path || (this.lines.browser + this.lines.server) / 2];
      const group = Demo.svg('g', { class: 'cross' });
      group.append(Demo.svg('path', { d: `M${x - 6} ${y - 6}L${x + 6} ${y + 6}M${x + 6} ${y - 6}L${x - 6} ${y + 6}` }));
      // Several crosses in a row get one label.
      if (label && !(x - this.crossed < 60)) {
        group.append(Demo.svg('text', { x: x + 10, y: y - 6 }, label));
        this.crossed = x;
      }
      return this.put(time, group);
    }

    // Begins a request. Draws a box for the time for which the browser waits. The box grows until `end` is called.
    begin(time) {
      const { browser, server } = this.lines;
      const rect = Demo.svg('rect', { class: 'span', x: this.x(time), y: browser, width: 1, height: server - browser, rx: 3 });
      const span = { until: Infinity, element: rect, from: time };
      this.moving.prepend(rect);
      this.open.add(span);
      this.things.push(span);
      return span;
    }

    end(span, time) {
      if (!span || !this.open.delete(span)) return;
      span.until = time;
      span.element.setAttribute('width', Math.max(2, this.x(time) - this.x(span.from)));
      span.element.classList.add('over');
    }

    move(now) {
      const gone = now - this.width / PIXELS_A_SECOND * 1000 - 2000;
      this.things = this.things.filter(thing => {
        if (thing.until > gone) return true;
        thing.element.remove();
        return false;
      });
      if (!this.isSeen) return;
      this.holding.style.display = this.heldSince === null ? 'none' : '';
      if (this.heldSince !== null) {
        this.holding.setAttribute('x1', this.x(Math.max(gone, this.heldSince)));
        this.holding.setAttribute('x2', this.x(now));
      }
      // A request that began long ago is drawn from the left edge. Otherwise, its box would grow without limit.
      for (const span of this.open) {
        if (span.from < gone) {
          span.from = gone;
          span.element.setAttribute('x', this.x(gone));
        }
        span.element.setAttribute('width', Math.max(2, this.x(now) - this.x(span.from)));
      }
      this.moving.setAttribute('transform', `translate(${(this.width - 14 - this.x(now)).toFixed(1)} 0)`);
    }
  };
})();
