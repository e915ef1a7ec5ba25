/* XHR streaming: an answer that does not end, read while it arrives; one JSON object a line. */
Longtail.transports.push({
  name: 'xhr-stream',
  usable: function (base) {
    return Longtail.reaches(base, true);
  },
  open: function (link) {
    return Longtail.readLines(link, '/xhr-stream');
  },
  close: function (stop) {
    stop();
  }
});
