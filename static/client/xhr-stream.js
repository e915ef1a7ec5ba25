/* XHR streaming: an answer that does not end, read while it arrives; one JSON object on each line. */
transports.push({
  name: 'xhr-stream',
  usable: function (base) {
    return reaches(base, true);
  },
  open: function (link) {
    return readLines(link, '/xhr-stream');
  },
  close: function (stop) {
    stop();
  }
});
