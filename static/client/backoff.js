/* Backoff: the time before the next attempt, and the transports that the library avoids after a failure. */

// Returns the delay before an attempt. It doubles from half a second to half a minute. Half of it is random, so that
// the readers of a server that restarts do not all reconnect at the same moment.
function retryDelay(count) {
  var most = Math.min(30000, 250 * Math.pow(2, count));
  return most / 2 + Math.random() * most / 2;
}

// Returns the penalties of transports that failed on this path. For each name, a penalty has the number of failures in
// a row, the time at which it ends, and its duration. The next page also uses the penalties, so their times are from
// the computer's clock.
function loadPenalties(base) {
  var kept = {};
  try {
    kept = decode(localStorage.getItem('longtail ' + base)) || kept;
    // Somebody may have set the clock back after the previous page stored the penalties.
    each(kept, function (name, penalty) { penalty[1] = Math.min(penalty[1], wallClock() + penalty[2]); });
  } catch (e) {}
  return kept;
}

function savePenalties(conn) {
  try { localStorage.setItem('longtail ' + conn._base, encode(conn._penalties)); } catch (e) {}
}

// Avoids a transport that failed. The time is 5 seconds, then 20, and so on up to ten minutes. It is never shorter than
// `least` ms.
function penalize(conn, transport, least) {
  var penalty = conn._penalties[transport.name];
  var count = penalty ? penalty[0] + 1 : 1;
  var time = Math.max(least || 0, Math.min(600000, 1250 * Math.pow(4, count)) * (0.75 + Math.random() / 2));
  conn._penalties[transport.name] = [count, wallClock() + time, time];
  savePenalties(conn);
}

function forgive(conn, transport) {
  if (conn._penalties[transport.name]) {
    delete conn._penalties[transport.name];
    savePenalties(conn);
  }
}

// Returns the milliseconds for which the library still avoids the transport. If the rest is longer than the whole time,
// the clock was set back. Rounding may add less than a millisecond to the rest.
function penaltyLeft(conn, transport) {
  var penalty = conn._penalties[transport.name];
  var left = penalty && penalty[1] - wallClock();
  return left > 0 && left < penalty[2] + 1 ? left : 0;
}
