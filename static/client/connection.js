/* The life of a connection. Its states are idle, connecting, open, waiting, paused and closed. */

// How long the library waits for a slow path if there is no other transport to fall back to, in milliseconds.
var PATIENCE = 15000;
// A transport that lived for this many milliseconds counts as working on this path, whatever ended it.
var STEADY_AFTER = 10000;

function isActive(conn) {
  return conn._ready && conn._lt.state !== 'closed' && conn._lt.state !== 'paused';
}

// Begins at the bottom of the ladder or, if the page wants only streams, at the first stream.
function open(conn) {
  var all = usable(conn, true);
  // The connection stays paused until it has a channel to read.
  if (!conn._lt.channels.length) { return pause(conn); }
  if (!all.length) { all = usable(conn, false); }
  if (!all.length) { return finish(conn, { code: 'no_transport', message: 'no transport is usable' }); }
  if (!conn._failures) { conn._start = 0; }
  read(conn, all[conn._start % all.length]);
}

// Reads with this transport from the present cursor, and ends all other links.
function read(conn, transport) {
  var lt = conn._lt;
  var link = newLink(conn, transport, lt.cursor);
  closeLinks(conn);
  conn._main = link;
  if (lt.transport !== transport.name) {
    lt.transport = transport.name;
    emit(conn, 'transport', transport.name);
  }
  // A listener may have closed the connection.
  if (link !== conn._main) { return; }
  setState(conn, 'connecting');
  if (link === conn._main) {
    openLink(link, usable(conn, true).length ? answerTimeout(conn) + conn._failures * ANSWER_WITHIN : PATIENCE);
  }
}

// Continues with other channels, on the same transport if it works.
function reopen(conn) {
  var main = conn._main;
  if (!isActive(conn)) { return; }
  conn._failures = 0;
  if (main && main._greeted && conn._lt.channels.length) { read(conn, main.transport); } else { open(conn); }
}

// Handles the first answer of the server on a link.
function greet(conn, link) {
  if (link.transport.batch) { conn._failures = 0; }
  if (link._greeted) { return; }
  link._greeted = true;
  link._since = now();
  if (conn._lt.state !== 'open') {
    setState(conn, 'open');
    emit(conn, 'open', { transport: link.transport.name, cursor: conn._lt.cursor });
  }
  if (link === conn._main) { climb(conn); }
}

// Handles a link that has ended, has failed, or was silent for too long.
function linkEnded(conn, link, error) {
  var lived = link._greeted ? now() - link._since : 0;
  var wait = error && error.retry || 0;
  closeLink(link);
  if (link === conn._check) {
    conn._check = null;
    // Not even a short request gets through, so the stream is dead as well.
    if (conn._main) { linkEnded(conn, conn._main, error); }
    return;
  }
  if (link === conn._probe) {
    conn._probe = null;
    penalize(conn, link.transport, wait);
    return climb(conn);
  }
  closeLinks(conn);
  if (error) {
    emit(conn, 'error', error);
    if (conn._main || !isActive(conn)) { return; }
    if (!wait && !isTransient(error)) { return finish(conn, error); }
  }
  if (!link.transport.batch) {
    if (lived > STEADY_AFTER) { conn._failures = 0; }
    if (error || lived < STEADY_AFTER) { penalize(conn, link.transport, wait); }
    // If the server has gone, clients must not all come back at once.
    if (usable(conn, true).length) { return retryAfter(conn, Math.max(wait, Math.random() * 1000)); }
  } else if (link.park && now() - link._asked > 1500) {
    // A proxy on the path ended the request before the time that the server was asked to wait.
    conn._parkSeconds = Math.max(1, Math.floor((now() - link._asked) / 1250));
  }
  conn._failures++;
  if (conn._failures % 2 === 0) { conn._start++; }
  retryAfter(conn, Math.max(wait, retryDelay(conn._failures)));
}

// Reads again after a time, with this transport or from the bottom of the ladder.
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

// Closes the connection for good.
function finish(conn, why) {
  closeLinks(conn);
  if (window.removeEventListener) { window.removeEventListener('online', conn._online, false); }
  setState(conn, 'closed');
  emit(conn, 'close', why);
}

function close(conn) {
  if (conn._lt.state !== 'closed') { finish(conn, { code: 'closed', message: 'by the page' }); }
}

// To read other channels, a connection continues from the same cursor with another list. This works on every transport.
function subscribe(conn, channel) {
  var lt = conn._lt;
  var none = !lt.channels.length;
  lt.channels = without(lt.channels, channel);
  lt.channels.push(channel);
  if (none) { resume(conn); } else { reopen(conn); }
}

function unsubscribe(conn, channel) {
  conn._lt.channels = without(conn._lt.channels, channel);
  reopen(conn);
}

// Continues with other transports, from the present cursor.
function use(conn, transports) {
  conn._wanted = transports ? list(transports) : null;
  if (isActive(conn)) {
    conn._failures = 0;
    open(conn);
  }
}
