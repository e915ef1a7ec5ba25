/*
 * Decides when a long request may begin: a stream, or a request that waits at the server.
 *
 * A browser opens six connections to a host, for all its tabs. If streams took all six, every other tab would hang, and
 * so would every publish. So the tabs of a page's origin count their streams in `localStorage`. At most four tabs have
 * a stream. Each further tab sends short requests until a stream of another tab ends. A WebSocket does not count
 * towards the six connections, and over HTTP/2 all tabs share one connection.
 *
 * If a script or a frame is added while the page loads, the page stays in the loading state until that script or frame
 * has ended. So JSONP and the forever frame wait until the page has loaded.
 */
(self.LongtailFiles = self.LongtailFiles || {}).slots = function (Longtail) {
  var MOST = 4;
  // At the latest after this time, other tabs see the values that this tab has written.
  var SETTLED_AFTER = 300;
  var ASK_AGAIN = 1500;
  var RENEW = 5000;
  // After this time without a renewal, a tab counts as closed. The time is long, because timers of background tabs fire
  // only once a minute.
  var DEAD_AFTER = 150000;
  var PREFIX = 'longtail slot ';
  // Whether the code of a transport is being loaded (see scripts.js), and the number of failed attempts to load it.
  var isAsking = false;
  var failed = 0;
  // The connections of this tab that have a slot or wait for one.
  var mine = [];

  function now() {
    return new Date().getTime();
  }

  // Writes a slot: the time of its request and the time of its last renewal. Each slot is a separate item of
  // `localStorage`, so a tab does not overwrite the slot of another tab.
  function write(slot) {
    try { localStorage.setItem(slot.key, slot.at + ' ' + now()); } catch (e) {}
  }

  function remove(key) {
    try { localStorage.removeItem(key); } catch (e) {}
  }

  // Returns the number of slots that were requested before this one.
  function before(slot) {
    var count = 0;
    var dead = [];
    try {
      for (var i = 0; i < localStorage.length; i++) {
        var key = localStorage.key(i);
        if (key.indexOf(slot.group) !== 0 || key === slot.key) { continue; }
        var times = localStorage.getItem(key).split(' ');
        // A slot whose time is in the future is also dead, because it is older than the last change of the clock.
        if (!(Math.abs(now() - times[1]) < DEAD_AFTER)) {
          dead.push(key);
        } else if (+times[0] < slot.at || (+times[0] === slot.at && key < slot.key)) {
          count++;
        }
      }
    } catch (e) {
      // The browser does not store data for this page, so the page cannot count slots.
      return 0;
    }
    while (dead.length) { remove(dead.pop()); }
    return count;
  }

  // Returns whether the connection reads, or wants to read, by a long request.
  function isNeeded(lt) {
    if (lt.state === 'closed' || lt.state === 'paused') { return false; }
    for (var i = 0; i < Longtail.transports.length; i++) {
      var transport = Longtail.transports[i];
      if (transport.name === lt.transport) { return !transport.free; }
    }
    return true;
  }

  function renew() {
    for (var i = mine.length - 1; i >= 0; i--) {
      if (isNeeded(mine[i].lt)) {
        write(mine[i]);
      } else {
        remove(mine[i].key);
        mine.splice(i, 1);
      }
    }
  }

  // Returns whether the last request to this server used HTTP/2 or HTTP/3. A browser does not report this for another
  // origin.
  function isMultiplexed(lt) {
    var is = false;
    try {
      var all = performance.getEntriesByType('resource');
      for (var i = 0; i < all.length; i++) {
        if (Longtail.origin(all[i].name) === Longtail.origin(lt.url) && all[i].nextHopProtocol) {
          is = /^h[23]/.test(all[i].nextHopProtocol);
        }
      }
    } catch (e) {}
    return is;
  }

  function isLoading() {
    // An old Firefox has no `readyState`.
    return typeof document !== 'undefined' && /^[li]/.test(document.readyState);
  }

  if (self.addEventListener) {
    self.addEventListener('pagehide', function () {
      while (mine.length) { remove(mine.pop().key); }
    }, false);
  }
  setInterval(renew, RENEW);

  // Returns the milliseconds after which the connection must ask again; 0 means that the request may begin. `park`: the
  // request waits at the server. `fail` reports an error to the page.
  Longtail.slots = function (lt, transport, park, fail) {
    var slot;
    if (!transport.open) {
      if (!isAsking) {
        isAsking = true;
        Longtail.need(lt.url, 'scripts', function () {
          isAsking = false;
          if (!transport.open) { failed++; }
        });
      }
      return Math.min(100 + 1000 * failed, RENEW);
    }
    if (isLoading() && (transport.name === 'jsonp' || transport.name === 'forever-frame')) { return 100; }
    if ((transport.batch && !park) || isMultiplexed(lt)) { return 0; }
    for (var i = 0; i < mine.length; i++) {
      if (mine[i].lt === lt) { slot = mine[i]; }
    }
    if (!slot) {
      slot = { lt: lt, group: PREFIX + Longtail.origin(lt.url) + ' ', at: now() };
      slot.key = slot.group + Longtail.newClientId();
      mine.push(slot);
      write(slot);
    }
    if (Math.abs(now() - slot.at) < SETTLED_AFTER) { return SETTLED_AFTER; }
    if (before(slot) < MOST) { return 0; }
    // If the connection does not have a transport for short requests, it does not read messages until it gets a slot.
    if (lt.state !== 'open' && !slot.hasFailed) {
      slot.hasFailed = true;
      // The call is deferred, because a listener may close the connection.
      setTimeout(function () {
        fail({ code: 'no_slot', message: 'other tabs have ' + MOST + ' streams, so this tab waits until one of them ends' });
      }, 0);
    }
    return ASK_AGAIN;
  };
};
