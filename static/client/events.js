/* Listeners, and the state of the connection, whose changes are events. */

// Names of the library's own events. Only the listeners of 'message' get a message with such an event name.
var OWN_EVENTS = /^(message|open|transport|state|gap|error|close)$/;

function listeners(conn, name) {
  return has(conn._listeners, name) ? conn._listeners[name] : [];
}

function on(conn, name, fn) {
  if (typeof fn !== 'function') { throw new Error('Longtail: no function'); }
  conn._listeners[name] = listeners(conn, name).concat(fn);
}

function off(conn, name, fn) {
  conn._listeners[name] = fn ? except(listeners(conn, name), [fn]) : [];
}

// A listener that is added or removed during a round changes only the next round, because each change makes a new
// array.
function emit(conn, name, first, second) {
  var fns = listeners(conn, name);
  for (var i = 0; i < fns.length; i++) {
    try { fns[i].call(conn._lt, first, second); } catch (e) { rethrow(e); }
  }
}

// A listener that throws an error must not stop the stream, but the error must appear in the console. This code is in a
// separate function, because in old versions of JScript, all `catch` clauses of a function share one variable `e`.
function rethrow(e) {
  setTimeout(function () { throw e; }, 0);
}

// Changes the state or, with 'transport' as the name, the transport.
function setState(conn, value, name) {
  name = name || 'state';
  if (conn._lt[name] !== value) { emit(conn, name, conn._lt[name] = value); }
}
