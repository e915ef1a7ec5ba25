/*
 * The forever frame: a hidden page that never finishes loading and calls a function of this one, a script tag
 * at a time. It calls its parent, so it has to come from the same origin.
 *
 * In an IE the frame stands in a document of its own, which is no part of any window ("htmlfile"): there it
 * neither clicks at each request nor keeps the page's throbber turning.
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
      // With the domain that this page may have set, or neither could call the other.
      page.write('<html><head><script>document.domain="' + document.domain + '";</' + 'script></head><body></body></html>');
      page.close();
      page.parentWindow.LongtailCall = function (object) { link.item(object); };
      name = 'LongtailCall';
      // Kept, or it would be collected with the stream still running.
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
    // Not while a script of the frame is running: it may be the one that called.
    setTimeout(function () {
      frame.src = 'about:blank';
      if (frame.parentNode) { frame.parentNode.removeChild(frame); }
      if (handle.page) {
        handle.page = handle.frame = null;
        // An IE lets go of the connection only when the document is collected.
        if (window.CollectGarbage) { window.CollectGarbage(); }
      }
    }, 0);
  }
});
