/* Durations. The clock of the computer can be set at any time. */

// The time of the computer's clock, for values that other pages read.
function wallClock() {
  return new Date().getTime();
}

// Milliseconds since some moment, by a clock that cannot be set. An old browser has only the computer's clock. So every
// use of a difference bounds it on both sides, or does no harm if it is far off.
function now() {
  return root.performance && performance.now ? performance.now() : wallClock();
}
