/* XHR streaming: an answer that does not end, read while it arrives; one JSON object on each line. */
transports.push({
  name: 'xhr-stream',
  usable: streams,
  open: function (link) {
    return readLines(link, '/xhr-stream');
  },
  close: call
});
