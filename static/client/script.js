/* Script elements: files of the library, and answers that are scripts. */

var policy;

// Returns the address of a script in a form that a page with Trusted Types accepts. If such a page lists the names of
// its policies, the list has to contain `longtail`.
function trusted(address) {
  if (!policy && self.trustedTypes) {
    policy = trustedTypes.createPolicy('longtail', { createScriptURL: String });
  }
  return policy ? policy.createScriptURL(address) : address;
}

// Adds a script to the page. Returns a function that removes the script: after that, neither `done` nor `failed` is
// called. Old versions of Internet Explorer report the loading state of a script, but not a failure.
function load(address, done, failed) {
  var script = document.createElement('script');
  function over(fn) {
    return function () {
      var state = script.readyState;
      if (fn && state && state !== 'loaded' && state !== 'complete') { return; }
      script.onload = script.onerror = script.onreadystatechange = null;
      // The script is removed later, because it may still be running now.
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
  document.getElementsByTagName('head')[0].appendChild(script);
  return over();
}
