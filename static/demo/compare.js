// Compares two sequences of ids: the ids that the page's own reader has seen, and the ids that a lane has seen. The
// page's own reader uses the library as any page should. The weather does not affect this reader.
'use strict';

(() => {
  // The number of ids to remember.
  const KEPT = 5000;
  const ids = [];
  const at = new Map();
  const watchers = [];
  let first = 0;

  Demo.reference = {
    saw(id) {
      if (at.has(id)) return;
      at.set(id, first + ids.length);
      ids.push(id);
      if (ids.length > KEPT) {
        at.delete(ids.shift());
        first += 1;
      }
      for (const watcher of watchers) watcher.settle();
    },
    // After a gap in the page's own reader, its ids are missing, so a comparison is not possible.
    restart() {
      for (const watcher of watchers) watcher.restart();
    }
  };

  Demo.Comparison = class {
    constructor() {
      this.next = 0;
      this.lost = 0;
      this.disordered = 0;
      // Ids that arrived at the lane first wait until the page's own reader also has them.
      this.early = [];
      watchers.push(this);
    }
    saw(id) {
      this.early.push(id);
      if (this.early.length > KEPT) this.early.shift();
      this.settle();
    }
    settle() {
      while (this.early.length) {
        const place = at.get(this.early[0]);
        if (place === undefined) break;
        this.early.shift();
        if (place < this.next) {
          this.disordered += 1;
        } else {
          this.lost += place - this.next;
          this.next = place + 1;
        }
      }
    }
    // A gap that the server announced is not a loss: the comparison continues with the next message.
    restart() {
      this.next = first + ids.length;
      this.early = [];
    }
  };
})();
