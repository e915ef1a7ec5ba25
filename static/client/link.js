/* A link is one transport at work for a connection: its requests, and the time for which it may be silent. */

// Milliseconds in which an answer, or the hello of a stream, must arrive. A slow path gets four more round trips.
var ANSWER_WITHIN = 2000;
// Seconds that a request waits at the server.
var PARKED = 25;

function newLink(conn, transport, cursor) {
  var lt = conn._lt;
  var options = conn._options;
  var link = {
    transport: transport,
    owner: lt,
    cursor: cursor,
    credentials: !!options.credentials,
    park: 0,
    // How long the stream may be silent: known once its hello has given the period of its heartbeat, 0 before that.
    _silence: 0,
    // When the stream's hello came, or when the link took over.
    _since: now(),
    live: function () {
      return link === conn._main || link === conn._probe || link === conn._check;
    },
    request: function () { lt.stats.requests++; },
    url: function (path, more) {
      return query(conn._base, path, {
        channel: lt.channels.join(','),
        cursor: link.cursor,
        last: link.cursor === 'latest' ? options.last : undefined,
        client: lt.client,
        token: options.token,
        probe: transport.batch ? undefined : 1
      }) + (more ? '&' + more : '');
    },
    item: function (object) { if (link.live()) { receiveItem(conn, link, object); } },
    batch: function (object) { if (link.live()) { receiveBatch(conn, link, object); } },
    end: function (error) { if (link.live()) { linkEnded(conn, link, error); } }
  };
  return link;
}

// Sends the link's first or next request. `within`: how long the link may be silent.
function openLink(link, within) {
  var handle;
  closeLink(link);
  link._asked = now();
  link._waited = link.park;
  expectWithin(link, within);
  try {
    handle = link.transport.open(link);
  } catch (e) {
    return link.end({ code: 'unreachable', message: String(e && e.message || e) });
  }
  // The link may have ended already, while it was being opened.
  if (!link.live()) { return link.transport.close(handle); }
  link._handle = handle;
  link._opened = true;
}

// Ends the link's request and all its timers.
function closeLink(link) {
  if (!link) { return; }
  clearTimeout(link._watchdog);
  clearTimeout(link._nextTimer);
  clearTimeout(link._checkTimer);
  if (link._opened) {
    link._opened = false;
    link.transport.close(link._handle);
  }
}

function closeLinks(conn) {
  var main = conn._main;
  var probe = conn._probe;
  var check = conn._check;
  clearTimeout(conn._retryTimer);
  clearTimeout(conn._climbTimer);
  conn._main = conn._probe = conn._check = null;
  closeLink(main);
  closeLink(probe);
  closeLink(check);
}

// Ends the link unless an object arrives on it within this time.
function expectWithin(link, within) {
  clearTimeout(link._watchdog);
  link._watchdog = setTimeout(function () {
    link.end({ code: 'unreachable', message: 'silent too long' });
  }, within);
}

function answerTimeout(conn) {
  return ANSWER_WITHIN + 4 * conn._roundTrip;
}

// Checks a stream that has been silent for longer than it used to be: a request asks whether there is a message
// that the stream should have brought.
function checkAfter(conn, link, wait) {
  clearTimeout(link._checkTimer);
  if (link.transport.batch || wait > link._silence) { return; }
  link._checkTimer = setTimeout(function () {
    var all = usable(conn, true);
    if (link !== conn._main || conn._check || !all.length) { return; }
    conn._check = newLink(conn, all[conn._start % all.length], link.cursor);
    openLink(conn._check, answerTimeout(conn));
    checkAfter(conn, link, wait * 2);
  }, wait);
}
