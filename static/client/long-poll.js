/* Long polling: a request that waits for its answer, then the next one. */
Longtail.transports.push({
  name: 'long-poll',
  batch: true,
  parks: true,
  usable: function (base) {
    return Longtail.reaches(base, false);
  },
  open: function (link) {
    return link.park ? Longtail.readBatch(link, '/long-poll', 'timeout=' + link.park) : Longtail.readBatch(link, '/poll');
  },
  close: function (stop) {
    stop();
  }
});
