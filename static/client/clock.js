/* Durations. The clock of the computer can be set at any time. */

// The time of the computer's clock, for values that other pages read.
function wallClock() {
  return new Date().getTime();
}

// Returns milliseconds since a fixed moment, from a clock that cannot be set. An old browser has only the computer's
// clock, so a difference of two times may be wrong. Every use of a difference limits it to a range, or does no harm if
// the difference is wrong.
function now() {
  return root.performance && performance.now ? performance.now() : wallClock();
}
