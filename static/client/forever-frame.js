/*
 * The forever frame: a hidden page that never finishes loading. The page calls its parent, so it must have the same
 * origin. The file scripts.js adds `open` and `close`; slots.js loads that file.
 */
transports.push({
  name: 'forever-frame',
  like: 'xhr-stream',
  usable: function (base) {
    return !!root.document && sameOrigin(base);
  }
});
