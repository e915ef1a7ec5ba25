/* JSONP: a script element whose script calls a function of this page with the batch. Works across origins in every browser. */
Longtail.transports.push({
  name: 'jsonp',
  path: '/jsonp',
  parks: 25000,
  usable: function () {
    return true;
  },
  open: function (link) {
    var script = document.createElement('script');
    var handle = { script: script, called: false };
    handle.call = Longtail.callable(function (batch) {
      handle.called = true;
      tidy();
      link.batch(batch, 0);
    });
    function tidy() {
      handle.call.drop();
      script.onload = script.onerror = script.onreadystatechange = null;
      setTimeout(function () {
        if (script.parentNode) { script.parentNode.removeChild(script); }
      }, 0);
    }
    function ended() {
      if (!handle.called) { link.end({ code: 'unreachable', message: 'the script did not call back' }); }
    }
    handle.tidy = tidy;
    link.request();
    script.async = true;
    script.src = link.url('timeout=25&callback=' + handle.call.name);
    script.onload = script.onerror = ended;
    script.onreadystatechange = function () {
      if (script.readyState === 'loaded' || script.readyState === 'complete') { ended(); }
    };
    (document.head || document.getElementsByTagName('head')[0]).appendChild(script);
    return handle;
  },
  close: function (handle) {
    handle.tidy();
  }
});
