/*
 * Server-sent events. An EventSource would reconnect by itself for ever. So this transport closes it after an error,
 * and the core decides what to do next. `probe` asks the server to send heartbeats as events, because a script cannot
 * see comments.
 */
transports.push({
  name: 'sse',
  usable: function () {
    return !!root.EventSource;
  },
  open: function (link) {
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
