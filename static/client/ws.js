/* WebSocket: one JSON object in each frame. Commands go in the other direction: see stream.js. */
transports.push({
  name: 'ws',
  free: true,
  usable: function () {
    return !!root.WebSocket;
  },
  open: function (link) {
    var socket = new WebSocket(link.url('/ws').replace(/^http/i, 'ws'));
    socket.onmessage = function (event) {
      link.text(event.data);
    };
    socket.onclose = function () {
      link.end();
    };
    return socket;
  },
  close: shut
});
