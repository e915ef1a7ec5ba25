/* Files of the library that are loaded when they are first needed: /share.js, /diagnose.js and others. */

// For each file that is being loaded, the functions that wait for it, by the name of the file.
var loading = {};

// Calls `then(api[name])`: at once if `api` has it, otherwise after it has loaded /name.js. The file cannot see `api`:
// a module makes no global, and a page may have two copies of the library. So it leaves a function in LongtailFiles,
// which puts the new parts into the `api` that it gets. If the file cannot be loaded, `then` gets undefined, and the
// next call tries again. A worker has no page for a script element. Node does not load files, because its build
// contains the files that it needs.
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

// Loads missing features, if there are any: in an old browser JSON and requests to other origins, and in a service
// worker, which has no page, requests by `fetch`.
function loadLegacy(base, done) {
  var xhr = newXhr();
  if (api.encode && xhr && 'withCredentials' in xhr) { done(); } else { need(base, root.document ? 'legacy' : 'fetch', done); }
}
