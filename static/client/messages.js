/* The reports of links: messages, gaps and control objects, one by one or in batches. */

// The number of ids that are kept to drop repeats, and of objects that are kept for a stream that has to prove itself.
var REMEMBERED = 1000;

// Handles an object of a stream.
function receiveItem(conn, link, object) {
  if (object.error) { return linkEnded(conn, link, object.error); }
  if (link === conn._probe) { receiveOfProbe(conn, link, object); } else { accept(conn, link, object); }
}

// Handles an object of the stream that is read.
function accept(conn, link, object) {
  var type = object.type;
  if (object.cursor && type !== 'gap') { link.cursor = conn._lt.cursor = object.cursor; }
  if (type === undefined) {
    greet(conn, link);
    if (link === conn._main) { deliver(conn, link, object); }
  } else if (type === 'hello') {
    link._silence = object.heartbeat ? object.heartbeat * 1250 + answerTimeout(conn) : 0;
    greet(conn, link);
  } else if (type === 'gap') {
    reportGap(conn, link, object);
  } else if (type === 'bye') {
    if (typeof object.retry !== 'number') { return finish(conn, object); }
    closeLinks(conn);
    return retryAfter(conn, object.retry, link.transport);
  } else if (type === 'error') {
    emit(conn, 'error', object);
  }
  if (link !== conn._main) { return; }
  if (conn._penalties[link.transport.name] && now() - link._since > STEADY_AFTER) {
    delete conn._penalties[link.transport.name];
    savePenalties(conn);
  }
  if (link._silence) { expectWithin(link, link._silence); }
  // If the next message takes much longer to arrive than this one did, a request checks the stream.
  if (type === undefined) { checkAfter(conn, link, Math.max(3000, 4 * (link._pace || 0)) * (1 + Math.random())); }
}

// Handles a whole batch; the next request follows it.
function receiveBatch(conn, link, object) {
  var messages = object.messages || [];
  var first = messages[0];
  if (object.error) { return linkEnded(conn, link, object.error); }
  if (link === conn._check) {
    closeLink(link);
    conn._check = null;
    // If the stream's message is on its way, a second is enough for it to arrive.
    if (conn._main && (object.gap || (first && !conn._seen[':' + first.id]))) { expectWithin(conn._main, 1000); }
    return;
  }
  link._opened = false;
  clearTimeout(link._watchdog);
  if (!link._waited) { conn._roundTrip = now() - link._asked; }
  if (object.gap) { reportGap(conn, link, { from: object.gap.from }); }
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

// How long to wait between an answer with `count` messages and the next request.
function pollDelay(conn, link, count) {
  var wait = conn._options.interval || 2000;
  if (count > 99) { return 0; }
  // Some proxies answer at once, with an empty answer, although the request should wait. If so, the library must not
  // ask again at once.
  if (link.park) { return count || !link._waited || now() - link._asked > 900 ? 0 : 1000; }
  return conn._probe ? Math.min(wait, 500) : wait;
}

function reportGap(conn, link, object) {
  if (object.cursor) { link.cursor = conn._lt.cursor = object.cursor; }
  // Both links reported the gap.
  if (object.from === conn._gapFrom) { return; }
  conn._gapFrom = object.from;
  conn._lt.stats.gaps++;
  emit(conn, 'gap', { from: object.from, cursor: object.cursor });
}

// Hands a message to the listeners, unless it is a repeat.
function deliver(conn, link, message) {
  var id = message.id;
  var time = now();
  var since = time - link._heard;
  if (id) {
    link.cursor = conn._lt.cursor = id;
    if (conn._seen[':' + id]) {
      conn._lt.stats.repeats++;
      return;
    }
    conn._seen[':' + id] = true;
    conn._order.push(id);
    // Ids are kept while a probe is behind: it has yet to bring all messages that the other link has already brought.
    while (conn._order.length > REMEMBERED && !conn._probe) { delete conn._seen[':' + conn._order.shift()]; }
  }
  if (link._heard) { link._pace = ((link._pace === undefined ? since : link._pace) * 3 + since) / 4; }
  link._heard = time;
  conn._lt.stats.messages++;
  emit(conn, 'message', message);
  if (OWN_EVENTS.indexOf(' ' + message.event + ' ') === -1) { emit(conn, message.event, message.data, message); }
}
