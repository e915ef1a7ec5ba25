/*
 * XHR multipart: one part a message. Netscape's `multipart/x-mixed-replace` is only taken apart by browsers of
 * its line, so the plain kind is asked for and its parts are read here: the object of a part stands on a line
 * of its own, and no other line of it begins with a brace.
 */
transports.push({
  name: 'multipart',
  like: 'xhr-stream',
  usable: function (base) {
    var xhr = newXhr();
    return reaches(base, true) && !!xhr && 'withCredentials' in xhr;
  },
  open: function (link) {
    return readLines(link, '/multipart', { Accept: 'multipart/mixed' });
  },
  close: function (stop) {
    stop();
  }
});
