/* A link is one transport in use by a connection: its requests, and the time for which it may be silent. */

// The milliseconds within which an answer, or the hello of a stream, must arrive. Four round trips are added, for slow
// paths.
var ANSWER_WITHIN = 2000;
// The longest round trip that counts. A longer one means that the computer slept during the request.
var LONGEST_ROUND_TRIP = 5000;
// Seconds that a request waits at the server.
var PARKED = 25;
// After streams have stopped without an error, the library asks for more heartbeats. This is the shortest interval, in
// seconds, that it asks for.
var SHORTEST_HEARTBEAT = 2;

function newLink(conn, transport, cursor) {
  var lt = conn._lt;
  var options = conn._options;
  var stream = transport.batch ? undefined : 1;
  var link = {
    transport: transport,
    owner: lt,
    cursor: cursor,
    credentials: !!options.credentials,
    park: 0,
    // The time at which the link's hello arrived, or at which the link took over. The hello also determines `_silence`,
    // the time for which the link may be silent.
    _since: now(),
    channels: list(lt.channels),
    _unique: Math.random(),
    live: function () {
      return link === conn._main || link === conn._probe || link === conn._check;
    },
    url: function (path, more) {
      return query(conn._base, path, {
        channel: link.channels.join(','),
        cursor: link.cursor,
        last: link.cursor === 'latest' ? options.last : undefined,
        client: lt.client,
        token: conn._token,
        probe: stream,
        heartbeat: stream && conn._heartbeat,
        // Some caches ignore the server's headers about caching, so each address must be different.
        n: stream ? undefined : link._unique
      }) + (more ? '&' + more : '');
    },
    text: function (text) {
      var object;
      try { object = decode(text); } catch (e) {}
      // After a stream has begun, the server does not report errors in it.
      if (!object || object.error) { return link.end(refusal(200, text)); }
      this.item(object);
    },
    item: function (object) { if (link.live()) { receiveItem(conn, link, object); } },
    batch: function (object) { if (link.live()) { receiveBatch(conn, link, object); } },
    end: function (error) { if (link.live()) { linkEnded(conn, link, error); } },
    // Whether a request may succeed if it is repeated; if the server refused the token, with the next one.
    repeats: function (error) { return !isFinal(error) || renews(conn, error); }
  };
  return link;
}

// Sends the link's first or next request. `within`: the milliseconds for which the link may be silent.
function openLink(link, within) {
  var handle;
  closeLink(link);
  link._asked = now();
  link._waited = link.park;
  // A new cursor already makes the address unique. So `_unique` changes only if the cursor does not, because the server
  // is fastest if two requests differ only in the cursor.
  if (link._askedAt === link.cursor) { link._unique = Math.random(); }
  link._askedAt = link.cursor;
  expectWithin(link, within);
  link.owner.stats.requests++;
  try {
    handle = link.transport.open(link);
  } catch (e) {
    return link.end(unreachable('' + e));
  }
  // The link may already have ended while it was being opened.
  if (!link.live()) { return link.transport.close(handle); }
  link._handle = handle;
  link._opened = true;
}

// Ends the link's request and all its timers.
function closeLink(link) {
  if (!link) { return; }
  clearTimeout(link._watchdog);
  clearTimeout(link._nextTimer);
  if (link._opened) {
    link._opened = false;
    link.transport.close(link._handle);
  }
}

function closeLinks(conn) {
  var links = [conn._main, conn._probe, conn._check];
  clearTimeout(conn._retryTimer);
  clearTimeout(conn._climbTimer);
  conn._main = conn._probe = conn._check = null;
  each(links, function (i, link) { closeLink(link); });
}

// Ends the link unless an object arrives on it within this time.
function expectWithin(link, within) {
  clearTimeout(link._watchdog);
  link._watchdog = setTimeout(function () {
    link._silent = true;
    link.end(unreachable('no answer'));
  }, within);
}

function answerTimeout(conn) {
  return ANSWER_WITHIN + 4 * conn._roundTrip;
}
