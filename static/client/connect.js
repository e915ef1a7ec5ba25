/* `Longtail.connect`: makes a connection, and the object that the page gets for it. */

// The methods that the page can call.
var METHODS = {
  on: on,
  off: off,
  subscribe: subscribe,
  unsubscribe: unsubscribe,
  use: use,
  pause: pause,
  resume: resume,
  close: close,
  publish: publish,
  members: watchMembers,
  emit: sendEvent,
  diagnose: diagnose
};

// Returns the complete address of the server. If the address has no host, it gets the host of the page, even if a
// <base> element of the page names another host.
function address(url) {
  url = String(url || '').replace(/\/+$/, '');
  if (/^https?:/i.test(url)) { return url; }
  if (!root.location || /^[^\/]/.test(url)) { throw new Error('Longtail: no address'); }
  // A page without a host (such as about:srcdoc) uses the addresses of the page around it.
  return location.host ? (/^\/\//.test(url) ? location.protocol : origin('')) + url : url;
}

function connect(url, options) {
  if (url && (url.channels || url.channel)) {
    options = url;
    url = '';
  }
  options = options || {};
  var base = address(url);
  var lt = {
    url: base,
    channels: list(options.channels || options.channel),
    cursor: options.cursor || 'latest',
    client: options.client || newClientId(),
    transport: null,
    state: 'idle',
    stats: { requests: 0, messages: 0, repeats: 0, gaps: 0 }
  };
  var conn = {
    _lt: lt,
    // Further members: _main, the link from which messages are delivered; _probe, the link that has to prove itself;
    // _check, the request that asks why a stream was refused; _ready, true when the features that this browser lacks
    // are loaded.
    _base: base,
    _options: options,
    _token: typeof options.token === 'function' ? undefined : options.token,
    // Names of transports, the best first; null: all transports that can be used.
    _wanted: options.transports ? list(options.transports) : null,
    _listeners: {},
    // Ids of messages, to drop repeats: the newest ids, and the ids before them.
    _seen: {},
    _seenBefore: {},
    _seenCount: 0,
    // The number of failures in a row, and the index of the transport with which the connection begins next.
    _failures: 0,
    _start: 0,
    // The seconds that requests may wait at the server, and the number of requests that were cut while they waited.
    _parkSeconds: PARKED,
    _cuts: 0,
    // The milliseconds that the last answer took.
    _roundTrip: 500,
    _penalties: loadPenalties(base),
    // Adds or removes the listeners of the browser's network.
    _listen: function (method) {
      var network = root.navigator && navigator.connection;
      if (root[method]) { root[method]('online', changed, false); }
      if (network && network[method]) { network[method]('change', changed, false); }
    }
  };
  function changed() { forgetPath(conn); }
  // A method does not need `this`, and returns the connection.
  each(METHODS, function (name, method) {
    lt[name] = function (first, second, third, fourth) {
      method(conn, first, second, third, fourth);
      return lt;
    };
  });
  conn._listen('addEventListener');
  // The connection begins to read later, so that the page can add its listeners first.
  setTimeout(function () {
    loadLegacy(base, function () { begin(conn); });
  }, 0);
  return lt;
}

// Begins to read: alone, through the connection that the tabs of this browser share, or with a session.
function begin(conn) {
  var options = conn._options;
  function alone() {
    conn._ready = true;
    if (isActive(conn)) { open(conn); }
  }
  checkNames(conn);
  if (!conn._lt.channels.length && !options.channels) { emit(conn, 'error', { code: 'no_channels' }); }
  if (!options.share && !options.session) { return alone(); }
  need(conn._base, options.session ? 'session' : 'share', function (join) {
    if (join) {
      conn._ready = true;
      return join(conn._lt, options, alone);
    }
    // Without its session, the connection must not read.
    if (options.session) { setTimeout(function () { begin(conn); }, 3000); } else { alone(); }
  });
}

// Reports the members of a channel; see members.js.
function watchMembers(conn, channel, fn) {
  need(conn._base, 'members', function (watch) {
    if (watch) { watch(newLink(conn, conn), channel, fn); }
  });
}

// Sends an event to the application; see emit.js.
function sendEvent(conn, event, data, done, settings) {
  need(conn._base, 'emit', function (send) {
    if (send) {
      send(newLink(conn, conn), conn._main && conn._main._care, event, data, done, settings);
    } else if (done) {
      done(refusal(0));
    }
  });
}

// Reports how the path to the server affects each transport; see diagnose.js.
function diagnose(conn, done) {
  need(conn._base, 'diagnose', function (diagnose) {
    if (!diagnose) { return done({ text: 'no answer', findings: [] }); }
    diagnose(conn._base, { channel: conn._lt.channels[0], token: conn._token, credentials: conn._options.credentials }, done);
  });
}
