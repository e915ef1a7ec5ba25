/* Script elements, and functions that a script of the server calls. */

var callCount = 0;

// A function that a script of the server can call by a global name, until `drop`. A script that arrives later
// finds a function that does nothing.
function callable(fn) {
  var key = 'c' + (++callCount);
  api.calls[key] = fn;
  return {
    name: 'Longtail.calls.' + key,
    drop: function () {
      api.calls[key] = nothing;
      setTimeout(function () { delete api.calls[key]; }, 120000);
    }
  };
}

// Adds a script to the page. Returns a function that removes the script: after that, neither `done` nor `failed` is
// called. An old Internet Explorer reports how far the script is loaded, but does not report a failure.
function load(address, done, failed) {
  var script = document.createElement('script');
  function over(fn) {
    return function () {
      var state = script.readyState;
      if (fn && state && state !== 'loaded' && state !== 'complete') { return; }
      script.onload = script.onerror = script.onreadystatechange = null;
      // The script is removed later, since it may still be running now.
      setTimeout(function () {
        if (script.parentNode) { script.parentNode.removeChild(script); }
        if (fn) { fn(); }
      }, 0);
    };
  }
  script.async = true;
  script.src = address;
  script.onload = script.onreadystatechange = over(done);
  script.onerror = over(failed);
  (document.head || document.getElementsByTagName('head')[0]).appendChild(script);
  return over();
}
