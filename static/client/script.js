/* Script elements: files of the library, and answers that are scripts. */

var policy;

// An address of a script, for a page that demands Trusted Types. A page that names its policies has to name `longtail`.
function trusted(address) {
  if (!policy && self.trustedTypes) {
    policy = trustedTypes.createPolicy('longtail', { createScriptURL: String });
  }
  return policy ? policy.createScriptURL(address) : address;
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
  script.src = trusted(address);
  script.onload = script.onreadystatechange = over(done);
  script.onerror = over(failed);
  (document.head || document.getElementsByTagName('head')[0]).appendChild(script);
  return over();
}
