/*
 * Server-sent events. The browser itself would reconnect for ever on this transport: the core closes the connection and
 * decides instead. The server sends heartbeats as events (`probe` asks for them), since a script does not see comments.
 */
transports.push({
  name: 'sse',
  usable: function (base) {
    if (typeof EventSource === 'undefined') { return false; }
    // The first versions of EventSource could not read from another origin, and threw an error.
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
