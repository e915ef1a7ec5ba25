/* Long polling: each request waits at the server until there is an answer; then the next request follows. */
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
