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
  diagnose: diagnose
};

function connect(url, options) {
  options = options || {};
  var base = String(url || '').replace(/\/+$/, '');
  var lt = {
    url: base,
    channels: list(options.channels),
    cursor: options.cursor || 'latest',
    client: options.client || newClientId(),
    transport: null,
    state: 'idle',
    stats: { requests: 0, messages: 0, repeats: 0, gaps: 0 }
  };
  var conn = {
    _lt: lt,
    _base: base,
    _options: options,
    // Names of transports, the best first; null: all transports that can be used.
    _wanted: options.transports ? list(options.transports) : null,
    _listeners: {},
    // Ids of messages, to drop repeats, and the order in which they came.
    _seen: {},
    _order: [],
    // The link that is read, the link that has yet to prove itself, and the link that checks a silent stream.
    _main: null,
    _probe: null,
    _check: null,
    // Failures of requests in a row, and the index of the transport to begin with next.
    _failures: 0,
    _start: 0,
    _parkSeconds: PARKED,
    // Milliseconds that the last answer took.
    _roundTrip: 500,
    _penalties: loadPenalties(base),
    // Whether the parts that this browser lacks are loaded.
    _ready: false,
    _online: function () {
      if (lt.state === 'waiting') { open(conn); }
    }
  };
  // A method does not need `this`, and returns the connection.
  each(METHODS, function (name, method) {
    lt[name] = function (first, second, third, fourth) {
      method(conn, first, second, third, fourth);
      return lt;
    };
  });
  if (window.addEventListener) { window.addEventListener('online', conn._online, false); }
  // The connection begins to read later, so that the page can add its listeners first.
  setTimeout(function () {
    loadLegacy(base, function () { begin(conn); });
  }, 0);
  return lt;
}

// Begins to read, alone or through the connection that the tabs of this browser share.
function begin(conn) {
  var options = conn._options;
  function alone() {
    conn._ready = true;
    if (isActive(conn)) { open(conn); }
  }
  // A connection that begins at its own cursor cannot share the position of others.
  if (!options.share || options.cursor || options.last || !window.BroadcastChannel || !navigator.locks) { return alone(); }
  need(conn._base, 'share', function (share) {
    if (!share) { return alone(); }
    conn._ready = true;
    if (isActive(conn)) { share(conn._lt, options); }
  });
}

// Reports how the path to the server affects each transport; see diagnose.js.
function diagnose(conn, done) {
  var options = conn._options;
  need(conn._base, 'diagnose', function (diagnose) {
    if (!diagnose) { return done({ text: 'The server did not answer.', findings: [], error: { code: 'unreachable' } }); }
    diagnose(conn._base, { channel: conn._lt.channels[0], token: options.token, credentials: options.credentials }, done);
  });
}
