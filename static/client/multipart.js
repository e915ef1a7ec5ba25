/*
 * XHR multipart: one part for each message. Only browsers that descend from Netscape take apart its
 * `multipart/x-mixed-replace`, so this file asks for the plain kind and reads the parts itself: the object of a part
 * is on a line of its own, and no other line begins with a brace.
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
