/*
 * JSONP, which works across origins in every browser that shows pages. The file scripts.js adds `open` and `close`;
 * slots.js loads that file.
 */
transports.push({
  name: 'jsonp',
  batch: true,
  parks: true,
  usable: function () {
    return !!root.document;
  }
});
