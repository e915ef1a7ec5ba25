/* Long polling: a request that waits for its answer, then the next one. */
transports.push({
  name: 'long-poll',
  batch: true,
  parks: true,
  usable: reaches,
  open: function (link) {
    return link.park ? readBatch(link, '/long-poll', 'timeout=' + link.park) : readBatch(link, '/poll');
  },
  close: call
});
