/*
 * A session with the application: connect(url, { channels: [...], session: true }).
 *
 * Each request of the connection has `session=1`, and later the id that the server has given: on every transport, and
 * on every node. The application can make the session join and leave channels, and send events to it. An event arrives
 * as a message with an empty channel. If the application waits for an answer, the page gives it with
 * `message.ack(value)`.
 *
 * If the application ends the session, the connection is closed with the code `session_ended`. If the session has ended
 * because the page was away, a new one begins. The page gets a `gap` then, because it has missed what the application
 * has sent in the meantime.
 */
(self.LongtailFiles = self.LongtailFiles || {}).session = function (Longtail) {
  // What is known of each connection with a session: `isRefused` (it would also share), and `isLost` (its session has
  // ended, and the next one has not begun).
  var known = [];

  function find(lt) {
    for (var i = 0; i < known.length; i++) {
      if (known[i].lt === lt) { return known[i]; }
    }
  }

  function nothing() {}

  // Makes an event of the application a message.
  function convert(lt, object) {
    var name = object.ack;
    if (object.type !== 'event') { return; }
    delete object.type;
    object.channel = '';
    if (name) {
      object.ack = function () {
        lt.emit('', [].slice.call(arguments), undefined, { ack: name, args: true });
      };
    }
  }

  // Begins a new session with the next request if the server does not know the present one.
  function lose(one, error) {
    if (error && error.code === 'no_session' && one.lt.session !== true) {
      one.lt.session = true;
      one.isLost = true;
    }
  }

  // Reads the session from the answers on a link, and adds it to the addresses.
  function prepare(one, link) {
    var lt = one.lt;
    var url = link.url;
    var item = link.item;
    var batch = link.batch;
    var end = link.end;

    // Notes the session of a hello or a batch. Returns the gap between the last session and this one, if there is one.
    function note(object) {
      var gap = one.isLost && object.session && { type: 'gap', from: lt.cursor, cursor: object.cursor };
      if (object.session) {
        lt.session = object.session;
        one.isLost = false;
      }
      return gap;
    }

    link.hasSession = true;
    link.url = function (path, more) {
      return url(path, 'session=' + (lt.session === true ? 1 : lt.session) + (more ? '&' + more : ''));
    };
    link.item = function (object) {
      if (!link.live()) { return; }
      lose(one, object.error);
      var gap = note(object);
      if (gap) { item(gap); }
      convert(lt, object);
      if (object.type === 'bye' && object.session === null) { object.code = 'session_ended'; }
      item(object);
    };
    link.batch = function (object) {
      if (!link.live()) { return; }
      lose(one, object.error);
      var gap = note(object);
      object.gap = object.gap || gap;
      for (var i = 0; object.messages && i < object.messages.length; i++) { convert(lt, object.messages[i]); }
      batch(object);
      if (object.session === null) { item({ type: 'bye', code: 'session_ended', reason: 'the application has ended the session' }); }
    };
    link.end = function (error) {
      if (link.live()) { lose(one, error); }
      end(error);
    };
  }

  // A handle that every transport can close.
  function refuse(link) {
    var handle = function () {};
    handle.close = nothing;
    handle.call = { drop: nothing };
    handle.frame = {};
    setTimeout(function () {
      link.end({ code: 'bad_request', message: 'a session cannot be shared: leave out share or session' });
    }, 0);
    return handle;
  }

  function wrap(transport) {
    var open = transport.open;
    transport.hasSessions = true;
    transport.open = function (link) {
      var one = find(link.owner);
      if (!one) { return open(link); }
      if (one.isRefused) { return refuse(link); }
      if (!link.hasSession) { prepare(one, link); }
      var source = open(link);
      if (transport.name === 'sse') {
        source.addEventListener('event', function (event) { link.text(event.data); }, false);
      }
      return source;
    };
  }

  // Lets all transports serve sessions. JSONP and the forever frame get their code later: then scripts.js calls this
  // again.
  Longtail.withSessions = function () {
    for (var i = 0; i < Longtail.transports.length; i++) {
      var transport = Longtail.transports[i];
      if (transport.open && !transport.hasSessions) { wrap(transport); }
    }
  };

  // The core calls this function before a connection with `session` begins to read. `begin` lets it read.
  Longtail.session = function (lt, options, begin) {
    Longtail.withSessions();
    lt.session = true;
    known.push({ lt: lt, isRefused: !!options.share, isLost: false });
    begin();
  };
};
