/* The reports of links: messages, gaps and control objects, one by one or in batches. */

// The number of ids that the library keeps to drop repeats (it keeps up to twice this number). This is also the number
// of objects that it keeps for a stream that has to prove itself.
var REMEMBERED = 1000;

// Handles an object of a stream.
function receiveItem(conn, link, object) {
  if (object.error) { return linkEnded(conn, link, object.error); }
  if (link === conn._probe) { receiveOfProbe(conn, link, object); } else { accept(conn, link, object); }
}

// Handles an object of the main link.
function accept(conn, link, object) {
  var type = object.type;
  if (object.cursor) { link.cursor = conn._lt.cursor = object.cursor; }
  // Messages, and changes of members.
  if (object.channel) {
    greet(conn, link);
    if (link === conn._main) { deliver(conn, link, object); }
  } else if (type === 'hello') {
    link._silence = object.heartbeat ? object.heartbeat * 1250 + answerTimeout(conn) : 0;
    greet(conn, link);
  } else if (type === 'gap') {
    reportGap(conn, object);
  } else if (type === 'bye') {
    if (typeof object.retry !== 'number') { return refused(conn, object); }
    closeLinks(conn);
    retryAfter(conn, object.retry, link.transport);
  }
  if (link !== conn._main) { return; }
  if (now() - link._since > STEADY_AFTER) { forgive(conn, link.transport); }
  if (link._silence) { expectWithin(link, link._silence); }
  if (link._care === undefined && type !== 'hello') { careFor(conn, link); }
  if (link._care && type === undefined) { link._care.heard(); }
}

// Loads stream.js, which monitors the stream from now on.
function careFor(conn, link) {
  link._care = null;
  need(conn._base, 'stream', function (care) {
    if (care && link === conn._main) { link._care = care(link, link._handle); }
  });
}

// Handles a whole batch; the next request follows it.
function receiveBatch(conn, link, object) {
  var messages = object.messages || [];
  if (object.error) { return linkEnded(conn, link, object.error); }
  if (link === conn._check) { return checkEnded(conn, link, unreachable('no ' + link._instead.transport.name)); }
  link._opened = false;
  clearTimeout(link._watchdog);
  if (!link._waited) {
    conn._roundTrip = Math.max(0, Math.min(now() - link._asked, LONGEST_ROUND_TRIP));
  } else if (!messages.length && conn._cuts < 2 && now() - link._asked > 900 * link._waited) {
    // An earlier request was cut, but this request waited for its whole time. So the next request may wait for longer.
    link.park = conn._parkSeconds = Math.min(PARKED, link._waited * 2);
  }
  if (object.gap) { reportGap(conn, object.gap); }
  for (var i = 0; i < messages.length && link === conn._main; i++) { deliver(conn, link, messages[i]); }
  if (link !== conn._main) { return; }
  if (object.cursor) { link.cursor = conn._lt.cursor = object.cursor; }
  greet(conn, link);
  if (link !== conn._main || link._opened) { return; }
  clearTimeout(link._nextTimer);
  link._nextTimer = setTimeout(function () {
    openLink(link, answerTimeout(conn) + link.park * 1000);
  }, pollDelay(conn, link, messages.length));
}

// Returns the milliseconds between an answer with `count` messages and the next request.
function pollDelay(conn, link, count) {
  var wait = conn._options.interval || 2000;
  if (count > 99) { return 0; }
  // Some proxies answer at once, with an empty answer, although the request should wait. If so, the library must not
  // ask again at once.
  if (link.park) { return count || !link._waited || now() - link._asked > 900 ? 0 : 1000; }
  return conn._probe ? Math.min(wait, 500) : wait;
}

function reportGap(conn, gap) {
  // Both links reported the gap.
  if (gap.from === conn._gapFrom) { return; }
  conn._gapFrom = gap.from;
  conn._lt.stats.gaps++;
  emit(conn, 'gap', { from: gap.from, cursor: gap.cursor });
}

// Passes a message to the listeners, unless it is a repeat.
function deliver(conn, link, message) {
  var id = message.id;
  if (id) {
    link.cursor = id;
    // The previous link has already delivered this message, so the cursor is after it.
    if (has(conn._seen, id) || has(conn._seenBefore, id)) {
      conn._lt.stats.repeats++;
      return;
    }
    conn._lt.cursor = id;
    // While a probe exists, all ids are kept: the probe may still deliver messages that the main link has already
    // delivered.
    if (++conn._seenCount > REMEMBERED && !conn._probe) {
      conn._seenBefore = conn._seen;
      conn._seen = {};
      conn._seenCount = 1;
    }
    conn._seen[id] = true;
  }
  conn._lt.stats.messages++;
  emit(conn, message.type || 'message', message);
  if (!OWN_EVENTS.test(message.event)) { emit(conn, message.event, message.data, message); }
}
