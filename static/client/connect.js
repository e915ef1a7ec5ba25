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
  members: fileMethod('members'),
  emit: fileMethod('emit'),
  diagnose: fileMethod('diagnose')
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
    _token: typeof options.token === 'string' ? options.token : undefined,
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
      join(conn._lt, options, alone);
    } else if (options.session) {
      // Without its session, the connection must not read.
      setTimeout(function () { begin(conn); }, 3000);
    } else {
      alone();
    }
  });
}

// Returns a method that loads a file and runs it. The file members.js reports the members of a channel, emit.js sends an
// event to the application, and diagnose.js reports how the path to the server affects each transport. If the file cannot
// be loaded, the page's function gets an object that is both an error and an empty report.
function fileMethod(name) {
  return function (conn, first, second, third, fourth) {
    need(conn._base, name, function (run) {
      if (run) { return run(newLink(conn, conn), conn._main && conn._main._care, first, second, third, fourth); }
      (third || first.call && first || nothing)({ code: 'unreachable', message: 'no answer', text: 'no answer', findings: [] });
    });
  };
}
