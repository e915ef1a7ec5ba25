/*
 * The forever frame: a hidden page that never finishes loading. Each script tag in it calls a function of this page.
 * The page calls its parent, so it has to come from the same origin.
 *
 * In Internet Explorer the frame is in a document of its own that belongs to no window ("htmlfile"): there the
 * browser does not click at each request, and the page's throbber does not keep turning.
 */
transports.push({
  name: 'forever-frame',
  like: 'xhr-stream',
  usable: function (base) {
    return sameOrigin(base) && !!document.body;
  },
  open: function (link) {
    var handle = {};
    var call = handle.call = callable(function (object) {
      link.item(object);
    });
    var name = call.name;
    var page = document;
    var frame;
    handle.ended = function () {
      link.end();
    };
    try {
      page = new ActiveXObject('htmlfile');
      page.open();
      // The document gets the domain of this page, which may have set `document.domain`: otherwise neither could call
      // the other.
      page.write('<html><head><script>document.domain="' + document.domain + '";</' + 'script></head><body></body></html>');
      page.close();
      page.parentWindow.LongtailCall = function (object) { link.item(object); };
      name = 'LongtailCall';
      // The document is kept here: otherwise the browser would collect it while the stream runs.
      handle.page = page;
    } catch (e) {
      page = document;
    }
    frame = handle.frame = page.createElement('iframe');
    link.request();
    frame.src = link.url('/forever-frame', 'callback=' + name);
    if (handle.page) { frame.src = origin(link.url('/')) + frame.src.replace(/^[a-z]+:\/\/[^\/]+/i, ''); }
    frame.title = 'Longtail';
    frame.tabIndex = -1;
    frame.setAttribute('aria-hidden', 'true');
    frame.style.display = 'none';
    if (frame.attachEvent) {
      frame.attachEvent('onload', handle.ended);
    } else {
      frame.onload = frame.onerror = handle.ended;
    }
    page.body.appendChild(frame);
    return handle;
  },
  close: function (handle) {
    var frame = handle.frame;
    handle.call.drop();
    if (frame.detachEvent) {
      frame.detachEvent('onload', handle.ended);
    } else {
      frame.onload = frame.onerror = null;
    }
    // The frame is removed later, since the script of the frame that called this may still be running.
    setTimeout(function () {
      frame.src = 'about:blank';
      if (frame.parentNode) { frame.parentNode.removeChild(frame); }
      if (handle.page) {
        handle.page = handle.frame = null;
        // Internet Explorer closes the connection only when it collects the document.
        if (window.CollectGarbage) { window.CollectGarbage(); }
      }
    }, 0);
  }
});
