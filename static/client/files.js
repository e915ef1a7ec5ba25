/* Files of the library that are loaded when they are first needed: /share.js, /diagnose.js and others. */

// By name, the functions that wait for a file that is being loaded.
var loading = {};

// Calls `then(api[name])`: at once if `api` has it, otherwise after it has loaded /name.js, which adds it. If the
// file cannot be loaded, `then` gets undefined, and the next call tries again. A build may contain such a file from the
// start. A worker has no page for a script element, and Node does not load files.
function need(base, name, then) {
  var address = base + '/' + name + '.js';
  function loaded() {
    var fns = loading[name];
    loading[name] = null;
    for (var i = 0; i < fns.length; i++) { fns[i](api[name]); }
  }
  if (api[name]) { return then(api[name]); }
  if (loading[name]) { return loading[name].push(then); }
  loading[name] = [then];
  try {
    if (typeof document !== 'undefined') { return load(address, loaded, loaded); }
    importScripts(address);
  } catch (e) {}
  loaded();
}

// Loads legacy.js if this browser needs it: for JSON, or for a way to publish where scripts may not send a request.
function loadLegacy(base, done) {
  if (api.encode && reaches(base, false)) { done(); } else { need(base, 'legacy', done); }
}
