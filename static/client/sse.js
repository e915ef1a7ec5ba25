/*
 * Server-sent events. The browser reconnects by itself and then names the last id that it saw, which is newer
 * than ours: heartbeats move it without firing an event. So it is left to do that, unless it has given up.
 */
Longtail.transports.push({
  name: 'sse',
  path: '/sse',
  heard: false,
  usable: function () {
    return typeof EventSource !== 'undefined';
  },
  open: function (link) {
    link.request();
    var url = link.url();
    var source = new EventSource(url, { withCredentials: link.credentials });
    function control(type) {
      source.addEventListener(type, function (event) {
        var object = Longtail.decode(event.data);
        object.type = type;
        object.cursor = object.cursor || event.lastEventId;
        link.item(object);
      }, false);
    }
    source.onmessage = function (event) {
      link.item(Longtail.decode(event.data));
    };
    control('hello');
    control('gap');
    control('bye');
    source.onerror = function () {
      if (source.readyState === 2) {
        link.end({ code: 'unreachable', message: 'the event source gave up' });
      } else {
        link.request();
      }
    };
    return source;
  },
  close: function (source) {
    source.onmessage = source.onerror = null;
    source.close();
  }
});
