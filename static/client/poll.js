/* Polling: ask, wait, ask again. On the page's own origin the cursor also goes as an entity tag, so that "nothing new" is a bare 304. */
Longtail.transports.push({
  name: 'poll',
  path: '/poll',
  usable: function (base) {
    return Longtail.reaches(base, false);
  },
  open: function (link) {
    var cursor = link.cursor();
    var tagged = cursor !== 'latest' && cursor !== 'earliest' && Longtail.sameOrigin(link.url());
    return Longtail.readBatch(link, '', tagged ? { 'If-None-Match': '"' + cursor + '"' } : {}, link.interval);
  },
  close: function (stop) {
    stop();
  }
});
