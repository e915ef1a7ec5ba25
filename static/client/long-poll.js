/* Long polling: a request that waits for its answer, then the next one. */
Longtail.transports.push({
  name: 'long-poll',
  path: '/long-poll',
  parks: 25000,
  usable: function (base) {
    return Longtail.reaches(base, false);
  },
  open: function (link) {
    return Longtail.readBatch(link, 'timeout=25', {}, 0);
  },
  close: function (stop) {
    stop();
  }
});
