/*
 * Longtail's browser library. Syntax and library calls are those of ECMAScript 3, so that the oldest
 * browsers can at least parse it; everything newer is asked for before it is used.
 *
 *   var lt = Longtail.connect('', { channels: ['todo'] });
 *   lt.on('message', function (message) { ... });            // every message
 *   lt.on('itemAdded', function (data, message) { ... });     // those with this event name
 *   lt.publish('todo', { title: 'milk' }, { event: 'itemAdded', toSelf: false });
 *
 * This file is the core: it owns the cursor, climbs the ladder of transports, drops repeats, backs off and
 * comes back. It knows nothing of any transport. A transport is a file of its own that adds one object to
 * Longtail.transports, the best first:
 *
 *   name          the server's name for it, as in /info
 *   batch         true if each answer is one batch; otherwise it is a stream
 *   parks         true if such a request can wait at the server until there is something to say
 *   free          true if it takes none of the six connections that browsers open to a host
 *   like          the transport that fares the same: this one is only tried where that cannot be used
 *   usable(base)  can this browser use it against that server?
 *   open(link)    begins to read; returns a handle for close
 *   close(handle) stops reading; nothing may be reported afterwards
 *
 * and reports through the link it was given:
 *
 *   link.url(path, more)    the address to open, with channels, cursor and client; `more` is extra query text
 *   link.request()          one more request has been made
 *   link.item(object)       one object of a stream: a message or a control object
 *   link.batch(batch)       a whole batch; the core opens the transport again for the next
 *   link.end(error)         the answer ended, or failed
 *   link.park               seconds that a request may wait at the server; 0: it is to be answered at once
 *   link.credentials        whether cookies go along to another origin
 *   link.cursor             where it reads
 *   link.live()             false once nothing more is wanted
 *
 * THE LADDER. A connection begins with a request that is answered at once and that passes every proxy we know
 * of. While these go on, the best transport is tried beside them, and takes over once it has proven itself:
 * its hello came, and then something more, in time. What it said until then is kept and handed on at that
 * moment, so nothing is lost; what came by both ways is dropped by its id, so nothing is doubled. A transport
 * that fails, or dies young, is left alone for a while, each time for longer, and the next one is tried; when
 * none is left, requests wait at the server (long polling). The ladder is climbed again when a time is over.
 * A stream that falls silent where there were messages is checked by a request beside it.
 *
 * Options of connect: channels, cursor, last, transports (names, the best first), client, token, interval (ms
 * between two polls), and credentials (true: cookies also go to another origin, which must then be allowed by
 * its name, not by `*`), and share (true: the tabs of this browser read through one connection, where it can).
 */
var Longtail = (function () {
  var api = { transports: [], calls: {}, version: '0.1.0' };
  var callCount = 0;
  var keyCount = 0;

  // Refusals that may pass. Anything else would be refused again, so the connection stays closed.
  var PASSING = ' not_ready log_unavailable outcome_unknown too_many_connections rate_limited unreachable ';
  // Names that belong to the library; a message with such an event name is seen by 'message' listeners only.
  var OWN = ' message open transport state gap error close ';
  // Milliseconds. An answer, or a stream's hello, comes within this, on a slow path after four round trips more.
  var ANSWER_WITHIN = 2000;
  // Where there is nothing else to fall back to, a slow path is waited for.
  var PATIENCE = 15000;
  // A transport that lived for so long works here, whatever ended it.
  var STEADY_AFTER = 10000;
  // Ids kept to drop repeats, and objects kept of a stream that has to prove itself.
  var REMEMBERED = 1000;
  // Seconds that a request waits at the server.
  var PARKED = 25;

  function nothing() {}

  function now() {
    return new Date().getTime();
  }

  function isArray(value) {
    return Object.prototype.toString.call(value) === '[object Array]';
  }

  function list(value) {
    return value === undefined || value === null ? [] : isArray(value) ? value.slice(0) : [value];
  }

  function each(object, fn) {
    for (var name in object) {
      if (Object.prototype.hasOwnProperty.call(object, name) && object[name] !== undefined) { fn(name, object[name]); }
    }
  }

  function without(array, item) {
    var left = [];
    for (var i = 0; i < array.length; i++) {
      if (array[i] !== item) { left.push(array[i]); }
    }
    return left;
  }

  /* ---- JSON; where there is none, legacy.js brings it ---- */

  if (typeof JSON !== 'undefined') {
    api.encode = JSON.stringify;
    api.decode = JSON.parse;
  }

  function encode(value) { return api.encode(value); }

  function decode(text) { return api.decode(text); }

  /* ---- requests ---- */

  // In lower case, as `location` has it.
  function origin(url) {
    var found = /^([a-z]+:)?(\/\/[^\/?#]+)/i.exec(url) || [];
    return ((found[1] || location.protocol) + (found[2] || '//' + location.host)).toLowerCase();
  }

  function sameOrigin(url) {
    return origin(url) === origin('');
  }

  function newXhr() {
    if (window.XMLHttpRequest) { return new XMLHttpRequest(); }
    try { return new ActiveXObject('Microsoft.XMLHTTP'); } catch (e) { return null; }
  }

  // Can a script read an answer of that server, and may it read on while the answer is still arriving?
  function reaches(url, streaming) {
    var xhr = newXhr();
    var modern = !!xhr && 'withCredentials' in xhr;
    if (modern || window.XDomainRequest) { return true; }
    return !!xhr && !streaming && sameOrigin(url);
  }

  // One request. `done(status, text)` once, with status 0 if nothing came; `progress(text)` with all that has
  // arrived so far. The returned function stops it without another word.
  function http(method, url, options, done, progress) {
    var finished = false;
    var xhr = newXhr();
    var foreign = !sameOrigin(url);
    var old = window.XDomainRequest && (!xhr || !('withCredentials' in xhr)) && (foreign || progress);
    var wait = 0;

    function finish(status, text) {
      if (finished) { return; }
      finished = true;
      if (old) {
        xhr.onload = xhr.onerror = xhr.ontimeout = xhr.onprogress = nothing;
      } else {
        xhr.onreadystatechange = nothing;
      }
      if (status !== -1) { done(status, text, wait, xhr); }
    }

    if (old) {
      xhr = new XDomainRequest();
      xhr.onload = function () { finish(200, xhr.responseText); };
      xhr.onerror = xhr.ontimeout = function () { finish(0, ''); };
      xhr.onprogress = function () { if (progress && !finished) { progress(xhr.responseText); } };
    }
    try {
      xhr.open(method, url, true);
      if (!old) {
        if (foreign && options.credentials && 'withCredentials' in xhr) { xhr.withCredentials = true; }
        each(options.headers, function (name, value) { xhr.setRequestHeader(name, value); });
        xhr.onreadystatechange = function () {
          var status = 0;
          var text = '';
          if (finished || xhr.readyState < 3) { return; }
          if (xhr.readyState === 3 && !progress) { return; }
          try { status = xhr.status; text = xhr.responseText; } catch (e) {}
          // Refused for now, if it says when to come back.
          if (status > 400) {
            try { wait = 1000 * xhr.getResponseHeader('Retry-After') || 0; } catch (e) {}
          }
          if (progress && status === 200) { progress(text); }
          if (!finished && xhr.readyState === 4) { finish(status, text); }
        };
      }
      xhr.send(options.body === undefined ? null : options.body);
    } catch (e) {
      setTimeout(function () { finish(0, ''); }, 0);
    }
    return function () {
      if (finished) { return; }
      finish(-1);
      try { xhr.abort(); } catch (e) {}
    };
  }

  // The error of an answer that is not 200: what the server said, or that nothing came.
  function refusal(status, text, wait) {
    try {
      var error = decode(text).error;
      if (error.code) {
        error.retry = wait;
        return error;
      }
    } catch (e) {}
    return { code: 'unreachable', message: status ? 'status ' + status : 'no answer' };
  }

  // Takes a text that only grows and hands over each line once it is complete.
  function lines(each) {
    var from = 0;
    return function (text) {
      var end;
      while ((end = text.indexOf('\n', from)) !== -1) {
        var line = text.substring(from, end);
        from = end + 1;
        if (each(line.replace(/^\s+|\s+$/g, '')) === false) { return; }
      }
    };
  }

  // A streamed answer whose objects stand one a line. Lines that begin with anything but a brace are padding
  // or the frame around the object, and are passed over.
  function readLines(link, path, headers) {
    link.request();
    return http('GET', link.url(path), { headers: headers, credentials: link.credentials }, function (status, text, wait) {
      link.end(status === 200 ? null : refusal(status, text, wait));
    }, lines(function (line) {
      if (line.charAt(0) === '{') { link.item(decode(line)); }
      return link.live();
    }));
  }

  // One request that is answered by one batch. On the page's own origin the cursor also goes as an entity tag,
  // so that "nothing new" is a bare 304.
  function readBatch(link, path, more) {
    var headers = {};
    var cursor = link.cursor;
    if (cursor !== 'latest' && cursor !== 'earliest' && sameOrigin(link.url(path))) {
      headers['If-None-Match'] = '"' + cursor + '"';
    }
    link.request();
    return http('GET', link.url(path, more), { headers: headers, credentials: link.credentials }, function (status, text, wait) {
      var batch = null;
      if (status === 304) { return link.batch({ messages: [] }); }
      if (status !== 200) { return link.end(refusal(status, text, wait)); }
      try { batch = decode(text); } catch (e) {}
      if (!batch) { return link.end(refusal(0)); }
      link.batch(batch);
    });
  }

  // A function that the server's script can call by a global name, until it is dropped. A script that
  // arrives after that finds a function that does nothing.
  function callable(fn) {
    var key = 'c' + (++callCount);
    api.calls[key] = fn;
    return {
      name: 'Longtail.calls.' + key,
      drop: function () {
        api.calls[key] = nothing;
        setTimeout(function () { delete api.calls[key]; }, 120000);
      }
    };
  }

  // A UUID of version 4.
  function newClientId() {
    var random = window.crypto && crypto.getRandomValues && window.Uint8Array && crypto.getRandomValues(new Uint8Array(32));
    var at = 0;
    return 'xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx'.replace(/[xy]/g, function (c) {
      var digit = (random ? random[at++] : Math.floor(Math.random() * 256)) & 15;
      return (c === 'x' ? digit : (digit & 3) | 8).toString(16);
    });
  }

  function query(base, path, fields) {
    var parts = [];
    each(fields, function (name, value) { parts.push(name + '=' + encodeURIComponent(value)); });
    return base + path + '?' + parts.join('&');
  }

  // Adds a script to the page. An old IE says how far it is and not that it failed.
  function load(address, done, failed) {
    var script = document.createElement('script');
    function over(fn) {
      return function () {
        var state = script.readyState;
        if (fn && state && state !== 'loaded' && state !== 'complete') { return; }
        script.onload = script.onerror = script.onreadystatechange = null;
        // Not while it may still be running.
        setTimeout(function () {
          if (script.parentNode) { script.parentNode.removeChild(script); }
          if (fn) { fn(); }
        }, 0);
      };
    }
    script.async = true;
    script.src = address;
    script.onload = script.onreadystatechange = over(done);
    script.onerror = over(failed);
    (document.head || document.getElementsByTagName('head')[0]).appendChild(script);
    return over();
  }

  // What this browser lacks, if anything: JSON, and a way to publish where scripts may not send a request.
  function equip(base, done) {
    if (api.encode && (api.post || reaches(base, false))) { done(); } else { load(base + '/legacy.js', done, done); }
  }

  /* ---- a connection ---- */

  function connect(url, options) {
    options = options || {};
    var base = String(url || '').replace(/\/+$/, '');
    var names = options.transports ? list(options.transports) : null;
    var listeners = {};
    var seen = {};
    var order = [];
    var main = null;      // the link that is read
    var probe = null;     // a link that has to prove itself before it may take over
    var check = null;     // a request that asks what a silent stream should have said
    var timer = null;     // the next attempt of all
    var climbing = null;  // the next look at the transports above
    var failures = 0;     // of requests, one after the other
    var place = 0;        // in the list of those to begin with
    var parked = PARKED;
    var trip = 500;       // the last round trip
    var gapFrom;
    var ready = false;    // what this browser lacked is there
    var marks = recall();
    var self = {
      url: base,
      channels: list(options.channels),
      cursor: options.cursor || 'latest',
      client: options.client || newClientId(),
      transport: null,
      state: 'idle',
      stats: { requests: 0, messages: 0, repeats: 0, gaps: 0 }
    };

    /* -- what worked here, kept for the next page -- */

    function recall() {
      try { return decode(localStorage.getItem('longtail ' + base)) || {}; } catch (e) { return {}; }
    }

    function keep() {
      try { localStorage.setItem('longtail ' + base, encode(marks)); } catch (e) {}
    }

    // A transport that failed is left alone for 5 seconds, then 20, and so on to ten minutes.
    function strike(transport, least) {
      var count = (marks[transport.name] ? marks[transport.name][0] : 0) + 1;
      var time = Math.min(600000, 5000 * Math.pow(4, Math.min(count, 9) - 1)) * (0.75 + Math.random() / 2);
      marks[transport.name] = [count, now() + Math.max(time, least || 0)];
      keep();
    }

    function blocked(transport) {
      var mark = marks[transport.name];
      // A clock that was set back must not block it for a year.
      return mark ? Math.max(0, Math.min(mark[1] - now(), 750000)) : 0;
    }

    /* -- events -- */

    function emit(name, first, second) {
      var fns = listeners[':' + name];
      if (!fns) { return; }
      fns = fns.slice(0);
      for (var i = 0; i < fns.length; i++) {
        try { fns[i].call(self, first, second); } catch (e) { rethrow(e); }
      }
    }

    // A listener that throws must not stop the stream, but its error belongs in the console.
    function rethrow(e) {
      setTimeout(function () { throw e; }, 0);
    }

    function setState(state) {
      if (self.state === state) { return; }
      self.state = state;
      emit('state', state);
    }

    /* -- transports -- */

    // Those of one kind that can be used, the best first.
    function rungs(batch) {
      var found = [];
      var all = {};
      var wanted = [];
      for (var i = 0; i < api.transports.length; i++) {
        var transport = api.transports[i];
        if (transport.usable(base)) {
          all[transport.name] = transport;
          if (!all[transport.like]) { wanted.push(transport.name); }
        }
      }
      wanted = names || wanted;
      for (i = 0; i < wanted.length; i++) {
        transport = all[wanted[i]];
        if (transport && batch === !!transport.batch) { found.push(transport); }
      }
      return found;
    }

    function newLink(transport, cursor) {
      var here = {
        transport: transport,
        owner: self,
        cursor: cursor,
        credentials: !!options.credentials,
        park: 0,
        beat: 0,
        since: now(),
        live: function () { return here === main || here === probe || here === check; },
        request: function () { self.stats.requests++; },
        url: function (path, more) {
          return query(base, path, {
            channel: self.channels.join(','),
            cursor: here.cursor,
            last: here.cursor === 'latest' ? options.last : undefined,
            client: self.client,
            token: options.token,
            probe: transport.batch ? undefined : 1
          }) + (more ? '&' + more : '');
        },
        item: function (object) { if (here.live()) { hear(here, object); } },
        batch: function (object) { if (here.live()) { batch(here, object); } },
        end: function (error) { if (here.live()) { ended(here, error); } }
      };
      return here;
    }

    // Sends a link's (next) request. `within`: how long it may be silent.
    function start(here, within) {
      var handle;
      shut(here);
      here.asked = now();
      here.waited = here.park;
      watch(here, within);
      try {
        handle = here.transport.open(here);
      } catch (e) {
        return here.end({ code: 'unreachable', message: String(e && e.message || e) });
      }
      // It may have ended already, while it was being opened.
      if (!here.live()) { return here.transport.close(handle); }
      here.handle = handle;
      here.opened = true;
    }

    // Ends a link's request and all that is planned for it.
    function shut(here) {
      if (!here) { return; }
      clearTimeout(here.watch);
      clearTimeout(here.next);
      clearTimeout(here.doubt);
      if (here.opened) {
        here.opened = false;
        here.transport.close(here.handle);
      }
    }

    function drop() {
      var all = [main, probe, check];
      clearTimeout(timer);
      clearTimeout(climbing);
      main = probe = check = null;
      for (var i = 0; i < 3; i++) { shut(all[i]); }
    }

    function watch(here, within) {
      clearTimeout(here.watch);
      here.watch = setTimeout(function () {
        here.end({ code: 'unreachable', message: 'silent too long' });
      }, within);
    }

    function patience() {
      return ANSWER_WITHIN + 4 * trip;
    }

    /* -- coming and going -- */

    function later(wait, next) {
      clearTimeout(timer);
      setState('waiting');
      timer = setTimeout(next || open, wait);
    }

    // Doubling from half a second to half a minute, with half of it left to chance, so that the readers of a
    // server that restarts do not all come back at once.
    function pauseAfter(count) {
      var most = Math.min(30000, 500 * Math.pow(2, Math.min(count, 10) - 1));
      return most / 2 + Math.random() * most / 2;
    }

    function finish(why) {
      drop();
      if (window.removeEventListener) { window.removeEventListener('online', online, false); }
      setState('closed');
      emit('close', why);
    }

    function going() {
      return ready && self.state !== 'closed' && self.state !== 'paused';
    }

    // From the bottom of the ladder, or, where only streams are wanted, at their first.
    function open() {
      var all = rungs(true);
      // Until there is something to read.
      if (!self.channels.length) { return self.pause(); }
      if (!all.length) { all = rungs(false); }
      if (!all.length) { return finish({ code: 'no_transport', message: 'no transport is usable' }); }
      if (!failures) { place = 0; }
      begin(all[place % all.length]);
    }

    function begin(transport) {
      var here = newLink(transport, self.cursor);
      drop();
      main = here;
      if (self.transport !== transport.name) {
        self.transport = transport.name;
        emit('transport', transport.name);
      }
      if (here !== main) { return; }
      setState('connecting');
      if (here === main) { start(here, rungs(true).length ? patience() + failures * ANSWER_WITHIN : PATIENCE); }
    }

    function reopen() {
      if (!going()) { return; }
      failures = 0;
      // With the same transport, if it works.
      if (main && main.greeted && self.channels.length) { begin(main.transport); } else { open(); }
    }

    function greet(here) {
      if (here.transport.batch) { failures = 0; }
      if (here.greeted) { return; }
      here.greeted = true;
      here.since = now();
      if (self.state !== 'open') {
        setState('open');
        emit('open', { transport: here.transport.name, cursor: self.cursor });
      }
      if (here === main) { climb(); }
    }

    // A link has ended, or failed, or was silent for too long.
    function ended(here, error) {
      var stream = !here.transport.batch;
      var lived = here.greeted ? now() - here.since : 0;
      var wait = error && error.retry || 0;
      shut(here);
      if (here === check) {
        check = null;
        // Not even a short request comes through: then the stream is dead, too.
        if (main) { ended(main, error); }
        return;
      }
      if (here === probe) {
        probe = null;
        strike(here.transport, wait);
        return climb();
      }
      drop();
      if (error) {
        emit('error', error);
        if (main || !going()) { return; }
        if (!wait && PASSING.indexOf(' ' + error.code + ' ') === -1) { return finish(error); }
      }
      if (stream) {
        if (lived > STEADY_AFTER) { failures = 0; }
        if (error || lived < STEADY_AFTER) { strike(here.transport, wait); }
        // Not all at once, if it was the server that went.
        if (rungs(true).length) { return later(Math.max(wait, Math.random() * 1000)); }
      } else if (here.park && now() - here.asked > 1500) {
        // Somebody on the way does not wait for as long as the server was asked to.
        parked = Math.max(1, Math.floor((now() - here.asked) / 1250));
      }
      failures++;
      if (failures % 2 === 0) { place++; }
      later(Math.max(wait, pauseAfter(failures)));
    }

    /* -- the ladder -- */

    // Tries the best transport above the present one that is not to be left alone.
    function climb() {
      var all = rungs(false);
      var soonest = 0;
      clearTimeout(climbing);
      if (probe || !main || !main.greeted || !rungs(true).length) { return; }
      for (var i = 0; i < all.length && all[i] !== main.transport; i++) {
        var wait = blocked(all[i]);
        // Beside a stream only what takes none of the browser's six connections.
        if (!main.transport.batch && !all[i].free) { continue; }
        if (!wait) { return attempt(all[i]); }
        if (!soonest || wait < soonest) { soonest = wait; }
      }
      if (soonest) { climbing = setTimeout(climb, soonest + 10); }
      // Nothing better for now: requests may wait at the server.
      if (main.transport.parks && !main.park) {
        main.park = parked;
        if (!main.opened) { start(main, patience() + parked * 1000); }
      }
    }

    function attempt(transport) {
      // Two requests that are kept waiting would be two of the browser's six.
      if (main.park) {
        main.park = 0;
        if (!transport.free && main.opened) { start(main, patience()); }
      }
      if (!main) { return; }
      probe = newLink(transport, main.cursor);
      probe.queue = [];
      start(probe, patience());
    }

    // The probe has proven itself: it is read from now on, beginning with what it has said so far.
    function promote() {
      var here = probe;
      var queue = here.queue;
      shut(main);
      main = here;
      probe = here.queue = null;
      here.since = now();
      self.transport = here.transport.name;
      emit('transport', self.transport);
      for (var i = 0; i < queue.length && here === main; i++) {
        // What has no id cannot be told from a repeat, and went to the link before this.
        if (queue[i].type !== undefined || queue[i].id) { take(here, queue[i]); }
      }
      if (here === main) { climb(); }
    }

    /* -- what is heard -- */

    function hear(here, object) {
      if (object.error) { return ended(here, object.error); }
      if (here !== probe) { return take(here, object); }
      here.queue.push(object);
      if (object.type === 'bye') { return ended(here, object); }
      if (object.type === 'hello') {
        here.since = now();
        watch(here, patience() + 500);
      } else if (object.type === 'heartbeat' || now() - here.since > 200 || here.queue.length > REMEMBERED) {
        // It came by itself, after the hello: nobody on the way waits for more.
        promote();
      }
    }

    function take(here, object) {
      var type = object.type;
      if (object.cursor && type !== 'gap') { here.cursor = self.cursor = object.cursor; }
      if (type === undefined) {
        greet(here);
        if (here === main) { message(here, object); }
      } else if (type === 'hello') {
        here.beat = object.heartbeat ? object.heartbeat * 1250 + patience() : 0;
        greet(here);
      } else if (type === 'gap') {
        gap(here, object);
      } else if (type === 'bye') {
        if (typeof object.retry !== 'number') { return finish(object); }
        drop();
        later(object.retry, function () { begin(here.transport); });
        return;
      } else if (type === 'error') {
        emit('error', object);
      }
      if (here !== main) { return; }
      if (marks[here.transport.name] && now() - here.since > STEADY_AFTER) {
        delete marks[here.transport.name];
        keep();
      }
      if (here.beat) { watch(here, here.beat); }
      // After a message the next is expected about as soon as it was before.
      if (type === undefined) { doubt(here, Math.max(3000, 4 * (here.pace || 0)) * (1 + Math.random())); }
    }

    function batch(here, object) {
      var messages = object.messages || [];
      var first = messages[0];
      if (object.error) { return ended(here, object.error); }
      if (here === check) {
        shut(here);
        check = null;
        // If it is just on its way, a second is enough for that.
        if (main && (object.gap || (first && !seen[':' + first.id]))) { watch(main, 1000); }
        return;
      }
      here.opened = false;
      clearTimeout(here.watch);
      if (!here.waited) { trip = now() - here.asked; }
      if (object.gap) { gap(here, { from: object.gap.from }); }
      for (var i = 0; i < messages.length && here === main; i++) { message(here, messages[i]); }
      if (here !== main) { return; }
      if (object.cursor) { here.cursor = self.cursor = object.cursor; }
      greet(here);
      if (here !== main || here.opened) { return; }
      // A parked request that is answered at once with nothing, as some proxies do, must not be sent in a circle.
      var wait = options.interval || 2000;
      if (messages.length > 99 || (here.park && (first || !here.waited || now() - here.asked > 900))) {
        wait = 0;
      } else if (here.park) {
        wait = 1000;
      } else if (probe) {
        wait = Math.min(wait, 500);
      }
      clearTimeout(here.next);
      here.next = setTimeout(function () { start(here, patience() + here.park * 1000); }, wait);
    }

    // A stream that has been silent for longer than it used to be: is there something that it should have said?
    function doubt(here, wait) {
      clearTimeout(here.doubt);
      if (here.transport.batch || wait > here.beat) { return; }
      here.doubt = setTimeout(function () {
        var all = rungs(true);
        if (here !== main || check || !all.length) { return; }
        check = newLink(all[place % all.length], here.cursor);
        start(check, patience());
        doubt(here, wait * 2);
      }, wait);
    }

    function gap(here, object) {
      if (object.cursor) { here.cursor = self.cursor = object.cursor; }
      // Told by both links.
      if (object.from === gapFrom) { return; }
      gapFrom = object.from;
      self.stats.gaps++;
      emit('gap', { from: object.from, cursor: object.cursor });
    }

    function message(here, object) {
      var time = now();
      if (object.id) {
        here.cursor = self.cursor = object.id;
        if (seen[':' + object.id]) {
          self.stats.repeats++;
          return;
        }
        seen[':' + object.id] = true;
        order.push(object.id);
        // Not while a probe is behind: it still has to bring all that the other link brought since.
        while (order.length > REMEMBERED && !probe) { delete seen[':' + order.shift()]; }
      }
      if (here.last) { here.pace = ((here.pace === undefined ? time - here.last : here.pace) * 3 + time - here.last) / 4; }
      here.last = time;
      self.stats.messages++;
      emit('message', object);
      if (OWN.indexOf(' ' + object.event + ' ') === -1) { emit(object.event, object.data, object); }
    }

    function online() {
      if (self.state === 'waiting') { open(); }
    }

    self.on = function (name, fn) {
      (listeners[':' + name] = listeners[':' + name] || []).push(fn);
      return self;
    };

    self.off = function (name, fn) {
      listeners[':' + name] = fn ? without(listeners[':' + name] || [], fn) : [];
      return self;
    };

    // Adding and leaving channels is reading on from the same cursor with another list, on every transport.
    self.subscribe = function (channel) {
      var none = !self.channels.length;
      self.channels = without(self.channels, channel);
      self.channels.push(channel);
      if (none) { self.resume(); } else { reopen(); }
      return self;
    };

    self.unsubscribe = function (channel) {
      self.channels = without(self.channels, channel);
      reopen();
      return self;
    };

    // Goes on with other transports, from the present cursor.
    self.use = function (transports) {
      names = transports ? list(transports) : null;
      if (going()) {
        failures = 0;
        open();
      }
      return self;
    };

    self.pause = function () {
      if (self.state !== 'closed') {
        drop();
        setState('paused');
      }
      return self;
    };

    self.resume = function () {
      if (self.state === 'paused') {
        failures = 0;
        if (ready) { open(); } else { setState('idle'); }
      }
      return self;
    };

    self.close = function () {
      if (self.state !== 'closed') { finish({ code: 'closed', message: 'by the page' }); }
      return self;
    };

    // settings: event, toSelf (false: not to this client), volatile, key; done(error, id). The payload is the
    // body, so that a browser sends the request to another origin without asking first. What may pass is tried
    // again; the key keeps the log from taking it twice.
    self.publish = function (channel, data, settings, done) {
      var tries = 0;
      settings = settings || {};
      var address = query(base, '/publish', {
        channel: channel,
        event: settings.event,
        exclude: settings.toSelf === false ? self.client : undefined,
        'volatile': settings['volatile'] ? 1 : undefined,
        key: settings['volatile'] ? undefined : settings.key || self.client + '-' + (++keyCount),
        token: options.token
      });

      function send() {
        http('POST', address, {
          credentials: options.credentials,
          body: encode(data),
          headers: { 'Content-Type': 'text/plain; charset=utf-8' }
        }, function (status, answer, wait) {
          var error = null;
          var id;
          if (status === 200 && answer) {
            try { id = decode(answer).messages[0].id; } catch (e) { status = 0; }
          }
          if (status !== 200) { error = refusal(status, answer, wait); }
          if (error && ++tries < 5 && (wait || PASSING.indexOf(' ' + error.code + ' ') !== -1)) {
            return setTimeout(send, Math.max(wait || 0, pauseAfter(tries)));
          }
          if (done) { done(error, id); }
        });
      }

      // The page may publish before that is there.
      equip(base, function () {
        if (api.encode && reaches(base, false)) {
          send();
        } else if (api.post) {
          api.post(address, data, done);
        } else if (done) {
          done(refusal(0));
        }
      });
      return self;
    };

    // Says in words what the way to the server does to each transport; see diagnose.js.
    self.diagnose = function (done) {
      load(base + '/diagnose.js', function () {
        api.diagnose(base, { channel: self.channels[0], token: options.token, credentials: options.credentials }, done);
      }, function () {
        done({ text: 'The server did not answer.', findings: [], error: { code: 'unreachable' } });
      });
      return self;
    };

    if (window.addEventListener) { window.addEventListener('online', online, false); }

    // Not at once, so that the page can add its listeners first.
    setTimeout(function () {
      equip(base, function () {
        function alone() {
          ready = true;
          if (going()) { open(); }
        }
        // One that begins at a cursor of its own cannot begin where others are.
        if (!options.share || options.cursor || options.last || !window.BroadcastChannel || !navigator.locks) { return alone(); }
        load(base + '/share.js', function () {
          ready = true;
          if (going()) { api.share(self, options); }
        }, alone);
      });
    }, 0);
    return self;
  }

  api.connect = connect;
  api.newClientId = newClientId;
  // What transports are made of.
  api.origin = origin;
  api.sameOrigin = sameOrigin;
  api.reaches = reaches;
  api.newXhr = newXhr;
  api.http = http;
  api.query = query;
  api.readLines = readLines;
  api.readBatch = readBatch;
  api.callable = callable;
  api.load = load;
  return api;
})();
