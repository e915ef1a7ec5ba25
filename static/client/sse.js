/*
 * Server-sent events. The browser itself would reconnect for ever on this transport: the core closes the connection and
 * decides instead. The server sends heartbeats as events (`probe` asks for them), since a script does not see comments.
 */
transports.push({
  name: 'sse',
  usable: function () {
    return !!root.EventSource;
  },
  open: function (link) {
    link.request();
    var source = new EventSource(link.url('/sse'), { withCredentials: link.credentials });
    each(['message', 'hello', 'heartbeat', 'gap', 'bye'], function (i, type) {
      source.addEventListener(type, function (event) { link.text(event.data); }, false);
    });
    source.onerror = function () {
      link.end();
    };
    return source;
  },
  close: shut
});
