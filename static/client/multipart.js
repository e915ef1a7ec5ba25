/*
 * XHR multipart: one part for each message. Only browsers that descend from Netscape can parse
 * `multipart/x-mixed-replace`. So this file asks for `multipart/mixed` and parses the parts itself: the object of a
 * part is on a separate line, and no other line begins with a brace.
 */
transports.push({
  name: 'multipart',
  like: 'xhr-stream',
  usable: streams,
  open: function (link) {
    return readLines(link, '/multipart', 'multipart/mixed');
  },
  close: call
});
