/* Files of the library that are loaded when they are first needed: /share.js, /diagnose.js and others. */

// For each file that is being loaded, the functions that wait for it, by the name of the file.
var loading = {};

// Calls `then(api[name])`: at once if `api` has this member, and otherwise after /name.js has loaded. The file cannot
// see `api`, because a module does not create a global variable, and a page may have two copies of the library. So the
// file stores a function in LongtailFiles. This function adds the new parts to the `api` that it gets. If the file
// cannot be loaded, `then` gets undefined, and the next call tries again. A worker does not have a page for a script
// element. Node does not load files, because its build contains the files that it needs.
function need(base, name, then) {
  var address = base + '/' + name + '.js';
  function loaded() {
    var fns = loading[name];
    loading[name] = null;
    try { root.LongtailFiles[name](api); } catch (e) {}
    for (var i = 0; i < fns.length; i++) { fns[i](api[name]); }
  }
  if (api[name]) { return then(api[name]); }
  if (loading[name]) { return loading[name].push(then); }
  loading[name] = [then];
  try {
    if (root.document) { return load(address, loaded, loaded); }
    importScripts(trusted(address));
  } catch (e) {}
  loaded();
}

// Loads missing features, if there are any. In an old browser, these are JSON and requests to other origins. In a
// service worker, which does not have a page, these are requests by `fetch`.
function loadLegacy(base, done) {
  var xhr = newXhr();
  if (api.encode && xhr && 'withCredentials' in xhr) { done(); } else { need(base, root.document ? 'legacy' : 'fetch', done); }
}
