/*
 * Longtail's browser library. Syntax and library calls are those of ECMAScript 3, so that the oldest
 * browsers can at least parse it; everything newer is asked for before it is used.
 *
 *   var lt = Longtail.connect('', { channels: ['todo'] });
 *   lt.on('message', function (message) { ... });            // every message
 *   lt.on('itemAdded', function (data, message) { ... });     // those with this event name
 *   lt.publish('todo', { title: 'milk' }, { event: 'itemAdded', toSelf: false });
 *
 * This file is the core: it owns the cursor, drops repeats, backs off and comes back. It knows nothing of
 * any transport. A transport is a file of its own that adds one object to Longtail.transports:
 *
 *   name          the server's name for it, as in /info
 *   path          where the server has it
 *   usable(base)  can this browser use it against that server?
 *   open(link)    start reading; returns a handle for close
 *   close(handle) stop reading; nothing may be reported afterwards
 *   heard         true if the server's heartbeats reach the script (then silence means a dead connection)
 *
 * and reports through the link it was given:
 *
 *   link.url(more)          the address to open, with channels, cursor and client; `more` is extra query text
 *   link.request()          one more request has been made
 *   link.item(object)       one object of a stream: a message or a control object
 *   link.batch(batch, wait) a whole batch; the next request goes out after `wait` milliseconds
 *   link.end(error)         the response ended, or failed
 *   link.credentials        whether cookies go along to another origin
 *   link.interval           milliseconds between two polls
 *   link.cursor()           the present cursor
 *   link.live()             false once nothing more is wanted
 *
 * Options of connect: channels, cursor, last, transports (names, the best first), client, token, interval, and
 * credentials (true: cookies also go to another origin, which must then be allowed by its name, not by `*`).
 */
var Longtail = (function () {
  var api = { transports: [], calls: {}, version: '0.1.0' };
  var callCount = 0;

  // Refusals that may pass. Anything else would be refused again, so the connection stays closed.
  var PASSING = ' not_ready log_unavailable outcome_unknown too_many_connections rate_limited unreachable ';
  // Names that belong to the library; a message with such an event name is seen by 'message' listeners only.
  var OWN = ' message open transport state gap error close ';
  var HELLO_WITHIN = 15000;
  var STEADY_AFTER = 5000;
  var REMEMBERED = 1000;

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

  function without(array, item) {
    var left = [];
    for (var i = 0; i < array.length; i++) {
      if (array[i] !== item) { left.push(array[i]); }
    }
    return left;
  }

  /* ---- JSON, also where there is none ---- */

  function quote(text) {
    return '"' + text.replace(/["\\\x00-\x1f\x7f-\x9f\u2028\u2029]/g, function (c) {
      return '\\u' + ('0000' + c.charCodeAt(0).toString(16)).slice(-4);
    }) + '"';
  }

  function encode(value) {
    var parts = [];
    if (typeof JSON !== 'undefined' && JSON.stringify) { return JSON.stringify(value); }
    if (value === null || value === undefined) { return 'null'; }
    if (typeof value === 'string') { return quote(value); }
    if (typeof value === 'number') { return isFinite(value) ? String(value) : 'null'; }
    if (typeof value !== 'object') { return String(value); }
    if (isArray(value)) {
      for (var i = 0; i < value.length; i++) { parts.push(encode(value[i])); }
      return '[' + parts.join(',') + ']';
    }
    for (var key in value) {
      if (Object.prototype.hasOwnProperty.call(value, key) && value[key] !== undefined) {
        parts.push(quote(key) + ':' + encode(value[key]));
      }
    }
    return '{' + parts.join(',') + '}';
  }

  // Without a native parser the text is run as a literal, and only after everything that is not JSON has
  // been ruled out: with strings, numbers and words taken away, nothing but punctuation may be left.
  function decode(text) {
    if (typeof JSON !== 'undefined' && JSON.parse) { return JSON.parse(text); }
    var rest = text
      .replace(/\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4})/g, '@')
      .replace(/"[^"\\\x00-\x1f]*"|true|false|null|-?\d+(?:\.\d*)?(?:[eE][+\-]?\d+)?/g, ']')
      .replace(/(?:^|:|,)(?:\s*\[)+/g, '');
    if (!/^[\],:{}\s]*$/.test(rest)) { throw new Error('not JSON'); }
    return new Function('return (' + text.replace(/\u2028/g, '\\u2028').replace(/\u2029/g, '\\u2029') + ')')();
  }

  /* ---- requests ---- */

  function origin(url) {
    var found = /^(?:([a-z]+:)?\/\/[^\/?#]+)/i.exec(url);
    var here = location.protocol + '//' + location.host;
    if (!found) { return here; }
    return (found[1] ? found[0] : location.protocol + found[0]).toLowerCase();
  }

  function sameOrigin(url) {
    return origin(url) === (location.protocol + '//' + location.host).toLowerCase();
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
    var headers = options.headers || {};

    function finish(status, text) {
      if (finished) { return; }
      finished = true;
      if (old) {
        xhr.onload = xhr.onerror = xhr.ontimeout = xhr.onprogress = nothing;
      } else {
        xhr.onreadystatechange = nothing;
      }
      if (status !== -1) { done(status, text); }
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
        for (var name in headers) {
          if (Object.prototype.hasOwnProperty.call(headers, name)) { xhr.setRequestHeader(name, headers[name]); }
        }
        xhr.onreadystatechange = function () {
          var status = 0;
          var text = '';
          if (finished || xhr.readyState < 3) { return; }
          if (xhr.readyState === 3 && !progress) { return; }
          try { status = xhr.status; text = xhr.responseText; } catch (e) {}
          if (status === 1223) { status = 204; }
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
  function refusal(status, text) {
    try {
      var body = decode(text);
      if (body && body.error && body.error.code) { return body.error; }
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
  function readLines(link, more, headers) {
    link.request();
    return http('GET', link.url(more), { headers: headers, credentials: link.credentials }, function (status, text) {
      link.end(status === 200 ? null : refusal(status, text));
    }, lines(function (line) {
      if (line.charAt(0) === '{') { link.item(decode(line)); }
      return link.live();
    }));
  }

  // One request that is answered by one batch.
  function readBatch(link, more, headers, wait) {
    link.request();
    return http('GET', link.url(more), { headers: headers, credentials: link.credentials }, function (status, text) {
      var batch = null;
      if (status === 304) { return link.batch({ messages: [] }, wait); }
      if (status !== 200) { return link.end(refusal(status, text)); }
      try { batch = decode(text); } catch (e) {}
      if (!batch) { return link.end({ code: 'unreachable', message: 'the answer was cut short' }); }
      link.batch(batch, wait);
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

  function newClientId() {
    var bytes = [];
    var text = '';
    var i;
    if (window.crypto && crypto.getRandomValues && window.Uint8Array) {
      bytes = crypto.getRandomValues(new Uint8Array(16));
    } else {
      for (i = 0; i < 16; i++) { bytes.push(Math.floor(Math.random() * 256)); }
    }
    for (i = 0; i < 16; i++) {
      var b = i === 6 ? (bytes[i] & 15) | 64 : i === 8 ? (bytes[i] & 63) | 128 : bytes[i];
      text += (b < 16 ? '0' : '') + b.toString(16) + (i === 3 || i === 5 || i === 7 || i === 9 ? '-' : '');
    }
    return text;
  }

  function query(base, path, fields) {
    var parts = [];
    for (var name in fields) {
      if (Object.prototype.hasOwnProperty.call(fields, name) && fields[name] !== undefined) {
        parts.push(name + '=' + encodeURIComponent(fields[name]));
      }
    }
    return base + path + '?' + parts.join('&');
  }

  /* ---- a connection ---- */

  function connect(url, options) {
    options = options || {};
    var base = String(url || '').replace(/\/+$/, '');
    var listeners = {};
    var seen = {};
    var order = [];
    var link = null;      // what is open now; reports of any other are ignored
    var timer = null;     // the next attempt
    var watch = null;     // fires when a stream has been silent for too long
    var names = options.transports ? list(options.transports) : null;
    var place = 0;        // in the list of transports
    var failures = 0;     // one after the other
    var self = {
      url: base,
      channels: list(options.channels),
      cursor: options.cursor || 'latest',
      client: options.client || newClientId(),
      transport: null,
      state: 'idle',
      stats: { requests: 0, messages: 0, repeats: 0, gaps: 0 }
    };

    function emit(name, first, second) {
      var fns = listeners[':' + name];
      if (!fns) { return; }
      fns = fns.slice(0);
      for (var i = 0; i < fns.length; i++) {
        try {
          fns[i].call(self, first, second);
        } catch (e) {
          rethrow(e);
        }
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

    function candidates() {
      var found = [];
      for (var i = 0; i < api.transports.length; i++) { found.push(api.transports[i]); }
      if (!names) { return found; }
      var chosen = [];
      for (var n = 0; n < names.length; n++) {
        for (var t = 0; t < found.length; t++) {
          if (found[t].name === names[n]) { chosen.push(found[t]); }
        }
      }
      return chosen;
    }

    function choose() {
      var all = candidates();
      for (var i = 0; i < all.length; i++) {
        var transport = all[(place + i) % all.length];
        if (transport.usable(base)) {
          place = (place + i) % all.length;
          return transport;
        }
      }
      return null;
    }

    function drop() {
      var old = link;
      clearTimeout(timer);
      clearTimeout(watch);
      timer = watch = link = null;
      if (old && old.opened) { old.transport.close(old.handle); }
    }

    function later(wait) {
      clearTimeout(timer);
      setState('waiting');
      timer = setTimeout(open, wait);
    }

    // Doubling from half a second to half a minute, with half of it left to chance, so that the readers of a
    // server that restarts do not all come back at once.
    function pauseAfter(count) {
      var most = Math.min(30000, 500 * Math.pow(2, Math.min(count, 10) - 1));
      return most / 2 + Math.random() * most / 2;
    }

    function finish(why) {
      drop();
      setState('closed');
      emit('close', why);
    }

    function failed(here, error) {
      if (here.greeted && now() - here.since > STEADY_AFTER) { failures = 0; }
      failures++;
      drop();
      if (error) {
        emit('error', error);
        if (self.state === 'closed') { return; }
        if (PASSING.indexOf(' ' + error.code + ' ') === -1) { return finish(error); }
      }
      if (failures % 2 === 0) { place++; }
      later(pauseAfter(failures));
    }

    function watched(here, wait) {
      clearTimeout(watch);
      if (!wait) { return; }
      watch = setTimeout(function () {
        if (here === link) { failed(here, { code: 'unreachable', message: 'silent for too long' }); }
      }, wait);
    }

    function greet(here) {
      if (here.greeted) { return; }
      here.greeted = true;
      here.since = now();
      setState('open');
      emit('open', { transport: here.transport.name, cursor: self.cursor });
    }

    function gap(from, cursor) {
      self.stats.gaps++;
      if (cursor) { self.cursor = cursor; }
      emit('gap', { from: from, cursor: cursor });
    }

    function message(object) {
      if (object.id) {
        if (seen[':' + object.id]) {
          self.stats.repeats++;
          return;
        }
        seen[':' + object.id] = true;
        order.push(object.id);
        if (order.length > REMEMBERED) { delete seen[':' + order.shift()]; }
        self.cursor = object.id;
      }
      self.stats.messages++;
      emit('message', object);
      if (OWN.indexOf(' ' + object.event + ' ') === -1) { emit(object.event, object.data, object); }
    }

    function item(here, object) {
      if (object.error) { return failed(here, object.error); }
      if (object.type === undefined) {
        greet(here);
        message(object);
      } else if (object.type === 'hello') {
        if (object.cursor) { self.cursor = object.cursor; }
        here.beat = object.heartbeat ? object.heartbeat * 2500 : 0;
        greet(here);
      } else if (object.type === 'heartbeat') {
        if (object.cursor) { self.cursor = object.cursor; }
      } else if (object.type === 'gap') {
        gap(object.from, object.cursor);
      } else if (object.type === 'bye') {
        if (object.cursor) { self.cursor = object.cursor; }
        if (typeof object.retry !== 'number') { return finish(object); }
        drop();
        later(object.retry);
      } else if (object.type === 'error') {
        emit('error', object);
      }
      if (here === link && here.greeted) { watched(here, here.transport.heard ? here.beat : 0); }
    }

    function batch(here, object, wait) {
      if (object.error) { return failed(here, object.error); }
      greet(here);
      failures = 0;
      if (object.gap) { gap(object.gap.from); }
      var messages = object.messages || [];
      for (var i = 0; i < messages.length; i++) {
        message(messages[i]);
        if (here !== link) { return; }
      }
      if (object.cursor) { self.cursor = object.cursor; }
      // The next request belongs to the same link: it stays open between two requests.
      clearTimeout(timer);
      clearTimeout(watch);
      timer = setTimeout(function () { start(here); }, wait || 0);
    }

    function start(here) {
      watched(here, HELLO_WITHIN + (here.transport.parks || 0));
      here.opened = false;
      var handle;
      try {
        handle = here.transport.open(here);
      } catch (e) {
        return failed(here, { code: 'unreachable', message: String(e && e.message || e) });
      }
      // It may have ended already, while it was being opened.
      if (here !== link) { return here.transport.close(handle); }
      here.handle = handle;
      here.opened = true;
    }

    function open() {
      drop();
      var transport = choose();
      if (!transport) { return finish({ code: 'no_transport', message: 'this browser has none of the transports' }); }
      var here = {
        transport: transport,
        interval: options.interval || 2000,
        credentials: !!options.credentials,
        greeted: false,
        opened: false,
        beat: 0,
        since: now(),
        live: function () { return here === link; },
        request: function () { self.stats.requests++; },
        url: function (more) {
          return query(base, transport.path, {
            channel: self.channels.join(','),
            cursor: self.cursor,
            last: self.cursor === 'latest' ? options.last : undefined,
            client: self.client,
            token: options.token
          }) + (more ? '&' + more : '');
        },
        cursor: function () { return self.cursor; },
        item: function (object) { if (here === link) { item(here, object); } },
        batch: function (object, wait) { if (here === link) { batch(here, object, wait); } },
        end: function (error) { if (here === link) { failed(here, error); } }
      };
      link = here;
      if (self.transport !== transport.name) {
        self.transport = transport.name;
        emit('transport', transport.name);
      }
      setState('connecting');
      if (here === link) { start(here); }
    }

    function reopen() {
      if (self.state === 'closed' || self.state === 'paused') { return; }
      failures = 0;
      open();
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
      self.channels = without(self.channels, channel);
      self.channels.push(channel);
      reopen();
      return self;
    };

    self.unsubscribe = function (channel) {
      self.channels = without(self.channels, channel);
      if (self.channels.length) { reopen(); } else { self.pause(); }
      return self;
    };

    // Goes on with other transports, from the present cursor.
    self.use = function (transports) {
      names = transports ? list(transports) : null;
      place = 0;
      reopen();
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
        open();
      }
      return self;
    };

    self.close = function () {
      if (self.state !== 'closed') { finish({ code: 'closed', message: 'closed by the page' }); }
      return self;
    };

    // settings: event, toSelf (false: not to this client), volatile, key; done(error, id). The payload is the
    // body, so that a browser sends the request to another origin without asking first.
    self.publish = function (channel, data, settings, done) {
      settings = settings || {};
      var text = typeof data === 'string';
      http('POST', query(base, '/publish', {
        channel: channel,
        event: settings.event,
        exclude: settings.toSelf === false ? self.client : undefined,
        'volatile': settings['volatile'] ? 1 : undefined,
        key: settings.key,
        as: text ? 'text' : undefined,
        token: options.token
      }), {
        credentials: options.credentials,
        body: text ? data : encode(data),
        headers: { 'Content-Type': 'text/plain; charset=utf-8' }
      }, function (status, answer) {
        if (!done) { return; }
        if (status !== 200) { return done(refusal(status, answer)); }
        done(null, decode(answer).messages[0].id);
      });
      return self;
    };

    // Not at once, so that the page can add its listeners first.
    timer = setTimeout(open, 0);
    return self;
  }

  api.connect = connect;
  api.newClientId = newClientId;
  // What transports are made of.
  api.encode = encode;
  api.decode = decode;
  api.origin = origin;
  api.sameOrigin = sameOrigin;
  api.reaches = reaches;
  api.readLines = readLines;
  api.readBatch = readBatch;
  api.callable = callable;
  return api;
})();
