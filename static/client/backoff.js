/* The time before the next attempt, and the transports that are avoided for a while. */

// The delay doubles from half a second to half a minute. Half of it is random, so that the readers of a server that
// restarts do not all come back at once.
function retryDelay(count) {
  var most = Math.min(30000, 500 * Math.pow(2, Math.min(count, 10) - 1));
  return most / 2 + Math.random() * most / 2;
}

// The penalties of transports that failed here: by name, the number of failures in a row and the time until which the
// transport is avoided. They are kept for the next page.
function loadPenalties(base) {
  try { return decode(localStorage.getItem('longtail ' + base)) || {}; } catch (e) { return {}; }
}

function savePenalties(conn) {
  try { localStorage.setItem('longtail ' + conn._base, encode(conn._penalties)); } catch (e) {}
}

// Avoids a transport that failed. The time is 5 seconds, then 20, and so on up to ten minutes. It is never shorter than
// `least` ms.
function penalize(conn, transport, least) {
  var penalty = conn._penalties[transport.name];
  var count = (penalty ? penalty[0] : 0) + 1;
  var time = Math.min(600000, 5000 * Math.pow(4, Math.min(count, 9) - 1)) * (0.75 + Math.random() / 2);
  conn._penalties[transport.name] = [count, now() + Math.max(time, least || 0)];
  savePenalties(conn);
}

// Milliseconds for which the transport is still avoided.
function penaltyLeft(conn, transport) {
  var penalty = conn._penalties[transport.name];
  // Bounded: a clock that was set back must not block a transport for a year.
  return penalty ? Math.max(0, Math.min(penalty[1] - now(), 750000)) : 0;
}
