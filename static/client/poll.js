/* Polling: the client asks, waits, and asks again. */
transports.push({
  name: 'poll',
  batch: true,
  usable: reaches,
  open: function (link) {
    return readBatch(link, '/poll');
  },
  close: call
});
