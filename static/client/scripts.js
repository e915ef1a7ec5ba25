/*
 * The code of the transports whose answers are scripts: JSONP and the forever frame. Their scripts call functions of
 * this page by a global name. The core loads this file when it uses one of them.
 */
(self.LongtailFiles = self.LongtailFiles || {}).scripts = function (Longtail) {
  function nothing() {}

  // Makes a function that a script of the server can call by a global name, until `drop` is called. A script that
  // arrives after `drop` calls a function that does nothing. All copies of the library on a page share one object for
  // these functions, so no two have the same name.
  function callable(fn) {
    var calls = window.LongtailCalls = window.LongtailCalls || { count: 0 };
    var key = 'c' + (++calls.count);
    calls[key] = fn;
    return {
      name: 'LongtailCalls.' + key,
      drop: function () {
        calls[key] = nothing;
        setTimeout(function () { delete calls[key]; }, 120000);
      }
    };
  }

  // A hidden page that never finishes loading. Each script tag in it calls a function of this page. The page calls its
  // parent, so it must have the same origin. In old versions of Internet Explorer, the frame is in a separate document:
  // see `htmlfile` in legacy.js.
  var foreverFrame = {
    open: function (link) {
      var page = Longtail.htmlfile && Longtail.htmlfile(link.item);
      var handle = { page: page, call: callable(link.item) };
      var frame = handle.frame = (page || document).createElement('iframe');
      var url = link.url('/forever-frame', 'callback=' + (page ? 'LongtailCall' : handle.call.name));
      frame.src = url;
      frame.style.display = 'none';
      handle.ended = function () {
        link.end();
      };
      if (frame.attachEvent) {
        frame.attachEvent('onload', handle.ended);
      } else {
        frame.onload = handle.ended;
      }
      (page || document).body.appendChild(frame);
      return handle;
    },
    close: function (handle) {
      var frame = handle.frame;
      handle.call.drop();
      // Old versions of Internet Explorer would keep the frame for ever.
      if (frame.detachEvent) { frame.detachEvent('onload', handle.ended); }
      // The frame is removed later, because the script in the frame that called this function may still be running.
      setTimeout(function () {
        frame.src = 'about:blank';
        if (frame.parentNode) { frame.parentNode.removeChild(frame); }
        handle.page = handle.frame = null;
        // Internet Explorer closes the connection only when it collects the document.
        if (window.CollectGarbage) { CollectGarbage(); }
      }, 0);
    }
  };

  // A script from the server calls a function of this page with the batch.
  var jsonp = {
    open: function (link) {
      var called = false;
      var mode = link.park ? 'timeout=' + link.park : 'mode=poll';
      var call = callable(function (batch) {
        called = true;
        call.drop();
        link.batch(batch);
      });
      function over() {
        call.drop();
        if (!called) { link.end({ code: 'unreachable', message: 'no answer' }); }
      }
      var forget = Longtail.load(link.url('/jsonp', mode + '&callback=' + call.name), over, over);
      return function () {
        call.drop();
        called = true;
        forget();
      };
    },
    close: function (stop) { stop(); }
  };

  for (var i = 0; i < Longtail.transports.length; i++) {
    var transport = Longtail.transports[i];
    var code = transport.name === 'jsonp' ? jsonp : transport.name === 'forever-frame' ? foreverFrame : transport;
    transport.open = code.open;
    transport.close = code.close;
  }
  if (Longtail.withSessions) { Longtail.withSessions(); }
  Longtail.scripts = true;
};
