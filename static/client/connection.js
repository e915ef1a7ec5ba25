/* The life of a connection. Its states are idle, connecting, open, waiting, paused and closed. */

// The milliseconds for which the library waits for an answer if it cannot fall back to another transport. The path may be
// slow.
var PATIENCE = 15000;
// If a transport was open for this many milliseconds, the library assumes that it works on this path, even if it ended
// with an error.
var STEADY_AFTER = 10000;

function isActive(conn) {
  return conn._ready && conn._lt.state !== 'closed' && conn._lt.state !== 'paused';
}

// Begins at the bottom of the ladder. If the page allows only streams, begins at the first stream.
function open(conn) {
  var all = usable(conn, true);
  if (conn._options.token && !conn._token) { return needToken(conn); }
  // The connection stays paused until it has a channel to read.
  if (!conn._lt.channels.length) { return pause(conn); }
  if (!all.length) { all = usable(conn, false); }
  if (!all.length) { return finish(conn, { code: 'no_transport' }); }
  read(conn, all[conn._start % all.length]);
}

// Reads with this transport from the present cursor, and ends all other links.
function read(conn, transport) {
  var link = newLink(conn, transport, conn._lt.cursor);
  var wait = delay(conn, transport);
  closeLinks(conn);
  if (wait) { return retryAfter(conn, wait, transport); }
  conn._main = link;
  setState(conn, transport.name, 'transport');
  // A listener may have closed the connection.
  if (link === conn._main) { setState(conn, 'connecting'); }
  if (link === conn._main) {
    openLink(link, usable(conn, true).length ? answerTimeout(conn) + conn._failures * ANSWER_WITHIN : PATIENCE);
  }
}

// Continues with other channels, or with another token (`all`). It sends a command if that is possible. Otherwise, it
// makes another request of the same transport, if that transport works.
function reopen(conn, all) {
  var main = conn._main;
  if (!isActive(conn)) { return; }
  conn._failures = 0;
  if (!main || !main._greeted || !conn._lt.channels.length) { return open(conn); }
  if (main._care && main._care.subscribe && !conn._probe) { main._care.subscribe(conn._token, all); } else { read(conn, main.transport); }
}

// Handles the first answer of the server on a link.
function greet(conn, link) {
  if (link.transport.batch) { conn._failures = 0; }
  if (link._greeted) { return; }
  link._greeted = true;
  link._since = now();
  conn._renewed = false;
  if (link.transport.batch) { rank(conn, link.transport); }
  if (conn._lt.state !== 'open') {
    setState(conn, 'open');
    emit(conn, 'open', { transport: link.transport.name, cursor: conn._lt.cursor });
  }
  if (link === conn._main) { climb(conn); }
}

// This batch transport works. The transports above it have failed, and the library tries them again later.
function rank(conn, transport) {
  var all = usable(conn, true);
  for (var i = 0; i < all.length && all[i] !== transport; i++) {
    if (!penaltyLeft(conn, all[i])) { penalize(conn, all[i]); }
  }
  conn._start = i;
  forgive(conn, transport);
}

// Handles a link that has ended, has failed, or was silent for too long.
function linkEnded(conn, link, error) {
  var lived = link._greeted ? now() - link._since : 0;
  var wait = error && error.retry || 0;
  if (link === conn._check) { return checkEnded(conn, link, error); }
  closeLink(link);
  if (link === conn._probe) {
    conn._probe = null;
    penalize(conn, link.transport, wait);
    return climb(conn);
  }
  closeLinks(conn);
  // A browser does not say why the server refused a WebSocket or an EventSource. A short request finds out the reason.
  var batches = usable(conn, true).length;
  var asks = !error && !link._greeted && !batches && usable(conn, true, true)[0];
  if (asks) {
    conn._check = newLink(conn, asks, conn._lt.cursor);
    conn._check._instead = link;
    return openLink(conn._check, PATIENCE);
  }
  if (error) {
    emit(conn, 'error', error);
    if (conn._main || !isActive(conn)) { return; }
    if (isFinal(error)) { return refused(conn, error); }
  }
  if (!link.transport.batch) {
    if (link._silent && link._silence) { conn._heartbeat = Math.max(SHORTEST_HEARTBEAT, Math.floor(link._silence / 2500)); }
    if (lived > STEADY_AFTER) { conn._failures = 0; }
    if (error || lived < STEADY_AFTER) { penalize(conn, link.transport, wait); }
    // After a failure of the server, the clients must not all reconnect at the same moment.
    if (batches) { return retryAfter(conn, Math.max(wait, Math.random() * 1000)); }
  } else if (link._waited) {
    learnPark(conn, now() - link._asked);
  }
  conn._failures++;
  if (conn._failures % 2 === 0) { conn._start++; }
  retryAfter(conn, Math.max(wait, retryDelay(conn._failures)));
}

// Handles a request that was cut after it had waited for this time. The cause is a proxy on the path with a shorter
// time limit than the server. If two requests are cut within a second and a half, requests cannot wait on this path at
// all.
function learnPark(conn, time) {
  if (time < 300) { return; }
  conn._cuts++;
  if (time > 1500) {
    conn._parkSeconds = Math.min(PARKED, Math.max(1, Math.floor(time / 1250)));
  } else if (conn._cuts > 1) {
    conn._parkSeconds = 0;
  }
}

// Handles the end of the request that asks why a stream was refused.
function checkEnded(conn, link, error) {
  closeLink(link);
  conn._check = null;
  linkEnded(conn, link._instead, error);
}

// Reads again after the time `wait`, with this transport or from the bottom of the ladder.
function retryAfter(conn, wait, transport) {
  clearTimeout(conn._retryTimer);
  setState(conn, 'waiting');
  conn._retryTimer = setTimeout(function () {
    if (transport) { read(conn, transport); } else { open(conn); }
  }, wait);
}

function pause(conn) {
  if (conn._lt.state !== 'closed') {
    closeLinks(conn);
    setState(conn, 'paused');
  }
}

function resume(conn) {
  if (conn._lt.state === 'paused') {
    conn._failures = 0;
    if (conn._ready) { open(conn); } else { setState(conn, 'idle'); }
  }
}

// Requests another token if the server refused the present one. Returns whether it has requested one.
function renews(conn, why) {
  var renews = conn._renew && (why.code === 'unauthorized' || why.code === 4003);
  if (renews) { conn._renew(); }
  return renews;
}

// Handles the answer when the server does not allow this client to read. The connection tries once with another token.
function refused(conn, why) {
  closeLinks(conn);
  if (conn._renewed || !renews(conn, why)) { return finish(conn, why); }
  conn._renewed = true;
  setState(conn, 'waiting');
}

// Gets a token from the page's function, and continues to read with each further token; see token.js.
function needToken(conn) {
  need(conn._base, 'token', function (token) {
    if (!isActive(conn)) { return; }
    if (!token) { return retryAfter(conn, retryDelay(++conn._failures)); }
    conn._renew = conn._renew || token(conn._options.token, function (error, fresh) {
      if (error) { return emit(conn, 'error', error); }
      conn._token = fresh;
      // A batch transport does not need this, because it sends the token with its next request.
      if (!conn._main || !conn._main.transport.batch) { reopen(conn, true); }
    });
    conn._renew();
  });
}

// Closes the connection permanently.
function finish(conn, why) {
  closeLinks(conn);
  conn._listen('removeEventListener');
  if (conn._renew) { conn._renew(true); }
  setState(conn, 'closed');
  emit(conn, 'close', why);
}

function close(conn) {
  if (conn._lt.state !== 'closed') { finish(conn, { code: 'closed' }); }
}

// Adds channels to the list. The connection continues from the same cursor with the new list. This works on every
// transport.
function subscribe(conn, channels) {
  change(conn, channels, list(channels));
}

function unsubscribe(conn, channels) {
  change(conn, channels, []);
}

function change(conn, channels, added) {
  var lt = conn._lt;
  var none = !lt.channels.length;
  lt.channels = except(lt.channels, list(channels)).concat(added);
  if (none) { resume(conn); } else { reopen(conn); }
}

// Reports unknown names of transports. Otherwise, the library would ignore them silently.
function checkNames(conn) {
  var unknown = conn._wanted || [];
  for (var i = 0; i < transports.length; i++) { unknown = except(unknown, [transports[i].name]); }
  if (unknown.length) { emit(conn, 'error', { code: 'no_transport', message: unknown.join() }); }
}

// Continues with other transports, from the present cursor.
function use(conn, names) {
  conn._wanted = names ? list(names) : null;
  checkNames(conn);
  if (isActive(conn)) {
    conn._failures = 0;
    open(conn);
  }
}
