/*
 * The forever frame: a hidden page that never finishes loading and calls a function of this one, a script tag
 * at a time. It calls its parent, so it has to come from the same origin.
 */
Longtail.transports.push({
  name: 'forever-frame',
  path: '/forever-frame',
  heard: true,
  usable: function (base) {
    return Longtail.sameOrigin(base) && !!document.body;
  },
  open: function (link) {
    var call = Longtail.callable(function (object) {
      link.item(object);
    });
    var frame = document.createElement('iframe');
    link.request();
    frame.src = link.url('callback=' + call.name);
    frame.title = 'Longtail';
    frame.tabIndex = -1;
    frame.setAttribute('aria-hidden', 'true');
    frame.style.display = 'none';
    function ended() {
      link.end();
    }
    if (frame.attachEvent) {
      frame.attachEvent('onload', ended);
    } else {
      frame.onload = frame.onerror = ended;
    }
    document.body.appendChild(frame);
    return { frame: frame, call: call, ended: ended };
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
      if (frame.parentNode) { frame.parentNode.removeChild(frame); }
    }, 0);
  }
});
