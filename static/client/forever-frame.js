/*
 * The forever frame: a hidden page that never finishes loading. Each script tag in it calls a function of this page.
 * It calls its parent, so it has to come from the same origin. In an old Internet Explorer the frame is in a document
 * of its own: see `htmlfile` in legacy.js.
 */
transports.push({
  name: 'forever-frame',
  like: 'xhr-stream',
  usable: function (base) {
    return typeof document !== 'undefined' && sameOrigin(base);
  },
  open: function (link) {
    var page = api.htmlfile && api.htmlfile(link.item);
    var handle = { page: page, call: callable(link.item) };
    var frame = handle.frame = (page || document).createElement('iframe');
    var url = link.url('/forever-frame', 'callback=' + (page ? 'LongtailCall' : handle.call.name));
    link.request();
    // The document of an Internet Explorer has no address that this one could be relative to.
    if (url.charAt(0) === '/') { url = origin(url) + url; }
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
    // An old Internet Explorer would keep the frame for ever.
    if (frame.detachEvent) { frame.detachEvent('onload', handle.ended); }
    // This happens later, since the script of the frame that called this may still be running.
    setTimeout(function () {
      frame.src = 'about:blank';
      if (frame.parentNode) { frame.parentNode.removeChild(frame); }
      handle.page = handle.frame = null;
      // Internet Explorer closes the connection only when it collects the document.
      if (window.CollectGarbage) { CollectGarbage(); }
    }, 0);
  }
});
