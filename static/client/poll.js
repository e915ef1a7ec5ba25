/* Polling: ask, wait, ask again. */
Longtail.transports.push({
  name: 'poll',
  batch: true,
  usable: function (base) {
    return Longtail.reaches(base, false);
  },
  open: function (link) {
    return Longtail.readBatch(link, '/poll');
  },
  close: function (stop) {
    stop();
  }
});
