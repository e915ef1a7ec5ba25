/* The time before the next attempt, and the transports that are avoided for a while. */

// The delay doubles from half a second to half a minute. Half of it is random, so that the readers of a server that
// restarts do not all come back at once.
function retryDelay(count) {
  var most = Math.min(30000, 250 * Math.pow(2, count));
  return most / 2 + Math.random() * most / 2;
}

// The penalties of transports that failed here: by name, the number of failures in a row, the time until which the
// transport is avoided, and how long that is. They are kept for the next page, so the times are those of the computer's
// clock.
function loadPenalties(base) {
  var kept = {};
  try {
    kept = decode(localStorage.getItem('longtail ' + base)) || kept;
    // The clock may have been set back since the page before.
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

// Milliseconds for which the transport is still avoided. If the rest is longer than the whole time, the clock was set
// back.
function penaltyLeft(conn, transport) {
  var penalty = conn._penalties[transport.name];
  var left = penalty && penalty[1] - wallClock();
  return left > 0 && left <= penalty[2] ? left : 0;
}
