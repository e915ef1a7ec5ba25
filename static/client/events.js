/* Listeners, and the state of a connection as they are told it. */

// Names of the library's own events. Only the listeners of 'message' get a message with such an event name.
var OWN_EVENTS = ' message open transport state gap error close ';

// Listeners stand by name, after a colon: a page may listen to 'constructor'.
function on(conn, name, fn) {
  (conn._listeners[':' + name] = conn._listeners[':' + name] || []).push(fn);
}

function off(conn, name, fn) {
  conn._listeners[':' + name] = fn ? without(conn._listeners[':' + name] || [], fn) : [];
}

function emit(conn, name, first, second) {
  var fns = conn._listeners[':' + name];
  if (!fns) { return; }
  fns = fns.slice(0);
  for (var i = 0; i < fns.length; i++) {
    try { fns[i].call(conn._lt, first, second); } catch (e) { rethrow(e); }
  }
}

// A listener that throws must not stop the stream, but its error belongs in the console. This is a function of
// its own, since an old JScript has one `e` for all.
function rethrow(e) {
  setTimeout(function () { throw e; }, 0);
}

function setState(conn, state) {
  if (conn._lt.state === state) { return; }
  conn._lt.state = state;
  emit(conn, 'state', state);
}
