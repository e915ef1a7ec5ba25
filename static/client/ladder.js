/* The ladder: the usable transports, and the change from the present one to a better one. */

// Returns the transports of one kind (batch or stream) that this browser can use and that the page allows, the best
// first. With `any`, the result also contains transports that the page does not allow.
function usable(conn, batch, any) {
  var found = [];
  var all = {};
  var wanted = [];
  for (var i = 0; i < transports.length; i++) {
    var transport = transports[i];
    if (transport.usable(conn._base)) {
      all[transport.name] = transport;
      if (!all[transport.like]) { wanted.push(transport.name); }
    }
  }
  wanted = !any && conn._wanted || wanted;
  for (i = 0; i < wanted.length; i++) {
    transport = all[wanted[i]];
    if (transport && batch === !!transport.batch) { found.push(transport); }
  }
  return found;
}

// Returns the milliseconds that a long request has to wait before it may begin: see slots.js. For a short request or a
// WebSocket, the result is 0 and slots.js is not loaded. slots.js also loads the code of a transport if it is missing.
function delay(conn, transport, park) {
  if (transport.open && (transport.free || transport.batch && !park && !conn._failures)) { return 0; }
  need(conn._base, 'slots', function (slots) { api.slots = slots || nothing; });
  return api.slots ? api.slots(conn._lt, transport, park, function (error) { emit(conn, 'error', error); }) : 100;
}

// Tries the best transport above the present one. It skips transports that failed recently. A batch transport takes
// over at once, because its first answer shows whether it works.
function climb(conn) {
  var batches = usable(conn, true);
  var all = usable(conn, false).concat(batches);
  var main = conn._main;
  var soonest = 0;
  var wait;
  clearTimeout(conn._climbTimer);
  if (conn._probe || !main || !main._greeted || !batches.length) { return; }
  for (var i = 0; i < all.length && all[i] !== main.transport; i++) {
    // While the connection reads a stream, the core tries only transports that do not take one of the browser's six
    // connections.
    if (!main.transport.batch && !all[i].free) { continue; }
    wait = penaltyLeft(conn, all[i]) || delay(conn, all[i]);
    if (!wait) { return all[i].batch ? read(conn, all[i]) : startProbe(conn, all[i]); }
    if (!soonest || wait < soonest) { soonest = wait; }
  }
  // There is no better transport for now, so requests may wait at the server.
  wait = main.transport.parks && !main.park && conn._parkSeconds ? delay(conn, main.transport, true) : -1;
  if (wait > 0) { soonest = wait; }
  if (soonest) { conn._climbTimer = setTimeout(function () { climb(conn); }, soonest + 10); }
  if (!wait) {
    main.park = conn._parkSeconds;
    if (!main._opened) { openLink(main, answerTimeout(conn) + main.park * 1000); }
  }
}

// Opens a transport in addition to the present one. The new transport has to prove itself before it takes over.
function startProbe(conn, transport) {
  var main = conn._main;
  // Two waiting requests would take two of the browser's six connections.
  if (main.park) {
    main.park = 0;
    if (!transport.free && main._opened) { openLink(main, answerTimeout(conn)); }
  }
  // This call may have ended the link, or begun another one.
  if (!conn._main) { return; }
  conn._probe = newLink(conn, transport, conn._lt.cursor);
  conn._probe._queue = [];
  openLink(conn._probe, answerTimeout(conn));
}

// Keeps the objects that the probe receives, until the probe has proven itself.
function receiveOfProbe(conn, link, object) {
  link._queue.push(object);
  if (object.type === 'bye') { return linkEnded(conn, link, object); }
  if (object.type === 'hello') {
    link._since = now();
    expectWithin(link, answerTimeout(conn) + 500);
  } else if (object.type === 'heartbeat' || now() - link._since > 200 || link._queue.length > REMEMBERED) {
    // The object arrived after the hello, separately from it. So no proxy on the path holds small pieces back until
    // more data follows.
    promote(conn, link);
  }
}

// Makes the probe the main link. It first delivers the objects that the probe has received so far.
function promote(conn, link) {
  var queue = link._queue;
  var old = conn._main;
  var cursor = conn._lt.cursor;
  var count = conn._lt.stats.messages;
  conn._main = link;
  closeLink(old);
  conn._probe = link._queue = null;
  link._since = now();
  setState(conn, link.transport.name, 'transport');
  for (var i = 0; i < queue.length && link === conn._main; i++) {
    // A message without an id cannot be distinguished from a repeat, so it is skipped: it also arrived on the previous
    // link.
    if (queue[i].type !== undefined || queue[i].id) { accept(conn, link, queue[i]); }
  }
  // If the link has not delivered a new message, it may be behind the previous link.
  if (conn._lt.stats.messages === count) { conn._lt.cursor = cursor; }
  if (link === conn._main) { climb(conn); }
}

// Forgets everything that the library has learned about the path, because the browser is online again or uses another
// network.
function forgetPath(conn) {
  var main = conn._main;
  conn._penalties = {};
  savePenalties(conn);
  conn._parkSeconds = PARKED;
  conn._cuts = conn._start = 0;
  conn._heartbeat = undefined;
  if (conn._lt.state === 'waiting') { return open(conn); }
  if (main && main.transport.batch) { openLink(main, answerTimeout(conn) + main.park * 1000); }
  if (main && main._care) { main._care.heard(); }
  climb(conn);
}
