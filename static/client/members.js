/*
 * Who reads a channel: lt.members('room', function (members, change) { ... }).
 *
 * The page's function gets the list at first and after each change. `change` is the object that the server sent
 * (`member_added` or `member_removed`), or undefined if the whole list is new. The list is fetched again after a gap. If
 * it cannot be read, the function gets null and the error.
 *
 * A connection with `share` leaves the tabs that share, and reads on its own from then on: the leader's connection does
 * not ask for changes of members.
 */
(self.LongtailFiles = self.LongtailFiles || {}).members = function (Longtail) {
  // Milliseconds before the list is asked for again, at first and at most.
  var AGAIN = 1000;
  var SELDOM = 30000;
  // With another answer, it makes no sense to ask again.
  var PASSING = /^(unreachable|rate_limited|too_many_connections|not_ready|log_unavailable)$/;

  // Connections that have been opened again since this file was loaded.
  var told = [];

  function isTold(lt) {
    for (var i = 0; i < told.length; i++) {
      if (told[i] === lt) { return true; }
    }
    return false;
  }

  // How many transports ask for changes of members.
  var asking = 0;

  // From now on, all connections of this page ask for changes of members. JSONP, the forever frame and `shared` get their
  // code when they are used, so this has to be called again.
  function ask() {
    for (var i = 0; i < Longtail.transports.length; i++) {
      var transport = Longtail.transports[i];
      if (transport.open && !transport.asks) {
        transport.asks = true;
        asking++;
        wrap(transport);
      }
    }
  }

  function wrap(transport) {
    var open = transport.open;
    transport.open = function (link) {
      var url = link.url;
      var source;
      if (!link.presence) {
        link.presence = true;
        link.url = function (path, more) { return url(path, 'presence=1' + (more ? '&' + more : '')); };
      }
      source = open(link);
      if (transport.name === 'sse') {
        hear(source, link, 'member_added');
        hear(source, link, 'member_removed');
      }
      // This happens later, since the core has not finished opening it. `source` is this tab's part in share.js.
      if (transport.name === 'shared' && isTold(link.owner)) {
        setTimeout(function () { link.owner.use(source.own); }, 0);
      }
      return source;
    };
  }

  function hear(source, link, type) {
    source.addEventListener(type, function (event) { link.text(event.data); }, false);
  }

  // The parts of a cursor: milliseconds, number, epoch.
  function parts(cursor) {
    return String(cursor).split(/[-.]/);
  }

  // Whether a position comes after another one of the same epoch.
  function isAfter(one, other) {
    return one[0] - other[0] || one[1] - other[1];
  }

  // The connection continues from its cursor, and is told of changes from there on.
  function reopen(lt) {
    if (lt.state !== 'paused') {
      lt.pause();
      lt.resume();
    }
  }

  // Removes a user from a list, and adds it if it has come.
  function update(list, change) {
    for (var i = list.length; i--;) {
      if (list[i].id === change.data.id) { list.splice(i, 1); }
    }
    if (change.type === 'member_added') { list.push(change.data); }
  }

  // `link` has the connection's addresses and token.
  Longtail.members = function (link, channel, fn) {
    var lt = link.owner;
    // The position of the list; without it, the list is being fetched, and what comes waits.
    var at = null;
    var list = [];
    var waiting = [];
    var wait = AGAIN;
    var fetches = 0;
    // Whether the connection had no position yet when the list was fetched: it may begin after changes that the list lacks.
    var isEarly = false;

    function tell(change) {
      fn.call(lt, list.slice(0), change);
    }

    // Updates the list. Returns whether the change is new.
    function apply(change) {
      var place = parts(change.id);
      if (place[2] !== at[2]) { return fetch(); }
      if (!(isAfter(place, at) > 0)) { return false; }
      at = place;
      update(list, change);
      return true;
    }

    function changed(change) {
      // A publisher may name an event like this.
      if (!change || !change.type || change.channel !== channel) { return; }
      if (!at) { waiting.push(change); } else if (apply(change)) { tell(change); }
    }

    function fetch() {
      var mine = ++fetches;
      at = null;
      isEarly = lt.cursor === 'latest';
      if (lt.state === 'closed') { return false; }
      link.cursor = undefined;
      link.channels = [];
      Longtail.http('GET', link.url('/channels/' + encodeURIComponent(channel) + '/members'), { credentials: link.credentials }, function (status, text) {
        var answer = null;
        var error;
        if (mine !== fetches) { return; }
        try { answer = Longtail.decode(text); } catch (e) {}
        if (status === 200 && answer && answer.members) {
          at = parts(answer.cursor);
          list = answer.members;
          wait = AGAIN;
          for (var early = waiting; early.length && at;) { apply(early.shift()); }
          if (at) { tell(); }
          return;
        }
        error = answer && answer.error || { code: 'unreachable', message: 'no list' };
        if (!PASSING.test(error.code)) { return fn.call(lt, null, error); }
        setTimeout(fetch, wait * (0.5 + Math.random()));
        wait = Math.min(wait * 2, SELDOM);
      });
      return false;
    }

    ask();
    var known = asking;
    lt.on('member_added', changed);
    lt.on('member_removed', changed);
    lt.on('gap', fetch);
    if (!isTold(lt)) {
      told.push(lt);
      reopen(lt);
    }
    lt.on('open', function () {
      ask();
      if (known !== asking) {
        known = asking;
        reopen(lt);
        isEarly = true;
      }
      // The changes before this position did not come.
      if (isEarly) { fetch(); }
    });
    fetch();
  };
};
