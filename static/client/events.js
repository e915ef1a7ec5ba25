/* Listeners, and the connection's state, which listeners get as events. */

// Names of the library's own events. Only the listeners of 'message' get a message with such an event name.
var OWN_EVENTS = ' message open transport state gap error close ';

// Listeners are stored under a colon and their name: a page may listen to 'constructor'.
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

// A listener that throws must not stop the stream, but its error belongs in the console. This is a function of its own,
// because an old JScript has only one `e` for all `catch` clauses of a function.
function rethrow(e) {
  setTimeout(function () { throw e; }, 0);
}

function setState(conn, state) {
  if (conn._lt.state === state) { return; }
  conn._lt.state = state;
  emit(conn, 'state', state);
}
