// Plots of lag: the time from the publish request of this page until the message arrives in a lane. The scale is
// logarithmic, because lags are between a millisecond and half a minute.
'use strict';

(() => {
  const [LEAST, MOST] = [1, 30000];
  const KEPT_SECONDS = 60;
  const MARKS = [[10, '10 ms'], [100, '0.1 s'], [1000, '1 s'], [10000, '10 s']];

  const part = ms => Math.log(Math.min(MOST, Math.max(LEAST, ms)) / LEAST) / Math.log(MOST / LEAST);

  // The lags of one lane over the last minute.
  Demo.Lags = class {
    constructor() {
      this.samples = [];
    }
    add(time, lag) {
      this.samples.push({ time, lag });
      if (this.samples.length > 3000) this.samples.shift();
    }
    now(time) {
      this.samples = this.samples.filter(sample => time - sample.time < KEPT_SECONDS * 1000);
      const lags = this.samples.map(sample => sample.lag);
      return { count: lags.length, p50: Demo.quantile(lags, 0.5), p99: Demo.quantile(lags, 0.99) };
    }
  };

  // Draws a dot for each lag of the last minute, and lines at p50 and p99.
  Demo.LagPlot = class {
    constructor(title) {
      this.svg = Demo.svg('svg', { class: 'lag-plot', role: 'img', viewBox: '0 0 220 60', preserveAspectRatio: 'none', 'aria-label': title });
      this.title = title;
      this.box = Demo.make('div', 'plot-box');
      this.box.append(this.svg);
      for (const [ms, label] of MARKS) {
        const mark = Demo.make('span', '', label);
        mark.setAttribute('aria-hidden', 'true');
        mark.style.top = this.y(ms) / 60 * 100 + '%';
        this.box.append(mark);
        this.svg.append(Demo.svg('line', { class: 'grid', x1: 0, x2: 220, y1: this.y(ms), y2: this.y(ms) }));
      }
      this.dots = this.svg.appendChild(Demo.svg('path', { class: 'dots' }));
      this.p50 = this.svg.appendChild(Demo.svg('line', { class: 'p50', x1: 0, x2: 220 }));
      this.p99 = this.svg.appendChild(Demo.svg('line', { class: 'p99', x1: 0, x2: 220 }));
    }
    y(ms) {
      return 56 - part(ms) * 52;
    }
    draw(lags, now) {
      const { count, p50, p99 } = lags.now(now);
      const dots = lags.samples.map(({ time, lag }) => `M${(220 - (now - time) / (KEPT_SECONDS * 1000) * 220).toFixed(1)} ${this.y(lag).toFixed(1)}h0`);
      this.dots.setAttribute('d', dots.join(''));
      for (const [line, value] of [[this.p50, p50], [this.p99, p99]]) {
        line.style.display = value === undefined ? 'none' : '';
        if (value === undefined) continue;
        line.setAttribute('y1', this.y(value));
        line.setAttribute('y2', this.y(value));
      }
      this.svg.setAttribute('aria-label', count
        ? `${this.title}: half within ${Demo.time(p50)}, 99 of 100 within ${Demo.time(p99)}`
        : `${this.title}: no message in the last minute`);
      return { p50, p99 };
    }
  };

  // Shows all lanes on one axis, each as a bar from p50 to p99.
  Demo.LagTable = class {
    constructor(box) {
      this.box = box;
      this.rows = new Map();
    }
    draw(lanes) {
      for (const { id, title, p50, p99 } of lanes) {
        let row = this.rows.get(id);
        if (!row) {
          row = { line: Demo.make('li'), svg: Demo.svg('svg', { 'aria-hidden': 'true', preserveAspectRatio: 'none', viewBox: '0 0 1000 24' }), text: Demo.make('span', 'figures') };
          for (const [ms] of MARKS) row.svg.append(Demo.svg('line', { class: 'grid', x1: part(ms) * 1000, x2: part(ms) * 1000, y1: 0, y2: 24 }));
          row.bar = row.svg.appendChild(Demo.svg('rect', { class: 'bar', y: 8, height: 8, rx: 4 }));
          row.dot = row.svg.appendChild(Demo.svg('rect', { class: 'p50', y: 4, height: 16, width: 6, rx: 2 }));
          row.line.append(Demo.make('span', 'name', title), row.svg, row.text);
          this.box.append(row.line);
          this.rows.set(id, row);
        }
        const isEmpty = p50 === undefined;
        row.bar.style.display = row.dot.style.display = isEmpty ? 'none' : '';
        Demo.say(row.text, isEmpty ? '–' : `${Demo.time(p50)} / ${Demo.time(p99)}`);
        row.text.title = isEmpty ? 'No message of this page in the last minute' : '';
        if (isEmpty) continue;
        row.bar.setAttribute('x', part(p50) * 1000);
        row.bar.setAttribute('width', Math.max(8, (part(p99) - part(p50)) * 1000));
        row.dot.setAttribute('x', part(p50) * 1000);
      }
    }
  };

  Demo.LAG_MARKS = MARKS.map(([ms, label]) => ({ at: part(ms), label }));
})();
