/*
 * XHR multipart: one part a message. Netscape's `multipart/x-mixed-replace` is only taken apart by browsers of
 * its line, so the plain kind is asked for and its parts are read here: the object of a part stands on a line
 * of its own, and no other line of it begins with a brace.
 */
Longtail.transports.push({
  name: 'multipart',
  path: '/multipart',
  heard: true,
  usable: function (base) {
    return Longtail.reaches(base, true) && typeof XMLHttpRequest !== 'undefined' &&
      'withCredentials' in new XMLHttpRequest();
  },
  open: function (link) {
    return Longtail.readLines(link, '', { Accept: 'multipart/mixed' });
  },
  close: function (stop) {
    stop();
  }
});
