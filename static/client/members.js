/*
 * Who reads a channel: lt.members('room', function (members, change) { ... }).
 *
 * The page's function gets the list at first and after each change. `change` is the object that the server sent
 * (`member_added` or `member_removed`), or undefined if the whole list is new. The list is fetched again after a gap. If
 * it cannot be read, the function gets null and the error, and then nothing until the connection opens again.
 *
 * A connection with `share` leaves the tabs that share, and reads on its own from then on: the leader's connection does
 * not ask for changes of members.
 */
(self.LongtailFiles = self.LongtailFiles || {}).members = function (Longtail) {
  // Milliseconds before the list is asked for again, at first and at most.
  var AGAIN = 1000;
  var SELDOM = 30000;
  // The interval in milliseconds for looking whether the first token has come.
  var LOOK = 20;
  // The maximum number of changes that wait for the list. With more, the list is fetched again.
  var MOST_WAITING = 1000;

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

  // The connection continues from its cursor, and is told of changes from there on. A connection that has not begun to
  // read needs no second beginning, and could lose its first token by it.
  function reopen(lt) {
    if (lt.state !== 'paused' && lt.state !== 'idle') {
      lt.pause();
      lt.resume();
    }
  }

  // Makes the connection ask for changes. Each time it opens, opened(isNew) is called; with `isNew`, it opens once more,
  // because its transport did not ask yet.
  function follow(lt, opened) {
    ask();
    var known = asking;
    if (!isTold(lt)) {
      told.push(lt);
      reopen(lt);
    }
    lt.on('open', function () {
      ask();
      var isNew = known !== asking;
      if (isNew) {
        known = asking;
        reopen(lt);
      }
      opened(isNew);
    });
  }

  // Removes a user from a list, and adds it if it has come.
  function update(list, change) {
    for (var i = list.length; i--;) {
      if (list[i].id === change.data.id) { list.splice(i, 1); }
    }
    if (change.type === 'member_added') { list.push(change.data); }
  }

  // Reads the list: done(error, answer).
  function read(link, channel, done) {
    link.cursor = undefined;
    link.channels = [];
    Longtail.http('GET', link.url('/channels/' + encodeURIComponent(channel) + '/members'), { credentials: link.credentials }, function (status, text, error) {
      var answer = null;
      try { answer = Longtail.decode(text); } catch (e) {}
      // The login page of a network answers with 200, too.
      if (!error && !(answer && answer.members && answer.cursor)) { error = { code: 'unreachable', message: 'no list' }; }
      done(error, answer);
    });
  }

  // `link` has the connection's addresses and token.
  Longtail.members = function (link, care, channel, fn) {
    var lt = link.owner;
    // The position of the list; without it, the list is being fetched, and what comes waits.
    var at = null;
    var list = [];
    var waiting = [];
    var wait = AGAIN;
    var fetches = 0;
    var timer = null;
    // Whether the list cannot be read. What comes in the meantime is of no use.
    var isRefused = false;
    // Whether the connection had no position yet when the list was fetched: it may begin after changes that the list lacks.
    var isEarly = false;

    // Updates the list. Returns whether the change is new.
    function apply(change) {
      var place = parts(change.id);
      if (place[2] !== at[2]) { return fetch(); }
      if (!(isAfter(place, at) > 0)) { return false; }
      at = place;
      update(list, change);
      return true;
    }

    function changed(change, message) {
      // A publisher may name an event like this, with any data. Only for such an event, the core gives the message, too.
      if (message || isRefused || change.channel !== channel) { return; }
      if (at) {
        if (apply(change)) { fn.call(lt, list.slice(0), change); }
      } else if (waiting.push(change) > MOST_WAITING) {
        // The list that is fetched next contains these changes.
        waiting = [];
        fetch();
      }
    }

    function fetch() {
      var mine = ++fetches;
      clearTimeout(timer);
      at = null;
      isRefused = false;
      isEarly = lt.cursor === 'latest';
      if (lt.state === 'closed') { return false; }
      // The connection has not begun to read: it may wait for the first token.
      if (lt.state === 'idle') {
        timer = setTimeout(fetch, LOOK);
        return false;
      }
      read(link, channel, function (error, answer) {
        if (mine !== fetches) { return; }
        if (!error) {
          at = parts(answer.cursor);
          list = answer.members;
          wait = AGAIN;
          for (var early = waiting; early.length && at;) { apply(early.shift()); }
          if (at) { fn.call(lt, list.slice(0)); }
          return;
        }
        if (!link.repeats(error)) {
          isRefused = true;
          waiting = [];
          return fn.call(lt, null, error);
        }
        timer = setTimeout(fetch, Math.max(error.retry || 0, wait * (0.5 + Math.random())));
        wait = Math.min(wait * 2, SELDOM);
      });
      return false;
    }

    lt.on('member_added', changed);
    lt.on('member_removed', changed);
    lt.on('gap', fetch);
    // The changes before this position did not come. Or the connection was refused, too, and has another token now.
    follow(lt, function (isNew) { if (isNew || isEarly || isRefused) { fetch(); } });
    fetch();
  };
};
