/*
 * Server-sent events. The browser would reconnect by itself, on the same transport for ever; the core knows
 * better what to do. Heartbeats are asked for as events, since a script sees no other sign of life.
 */
transports.push({
  name: 'sse',
  usable: function (base) {
    if (typeof EventSource === 'undefined') { return false; }
    // The first ones could not go to another origin, and threw.
    return sameOrigin(base) || 'withCredentials' in EventSource.prototype;
  },
  open: function (link) {
    var source;
    link.request();
    source = new EventSource(link.url('/sse'), { withCredentials: link.credentials });
    function control(type) {
      source.addEventListener(type, function (event) {
        var object = decode(event.data);
        object.type = type;
        link.item(object);
      }, false);
    }
    source.onmessage = function (event) {
      link.item(decode(event.data));
    };
    control('hello');
    control('heartbeat');
    control('gap');
    control('bye');
    source.onerror = function () {
      link.end();
    };
    return source;
  },
  close: function (source) {
    source.onmessage = source.onerror = null;
    source.close();
  }
});
