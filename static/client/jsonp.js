/* JSONP: it works across origins in every browser that shows pages. The file scripts.js has the rest. */
scripted({
  name: 'jsonp',
  batch: true,
  parks: true,
  usable: function () {
    return !!root.document;
  }
});
