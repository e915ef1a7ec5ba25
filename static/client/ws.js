/* WebSocket: one JSON object in each frame. */
transports.push({
  name: 'ws',
  free: true,
  usable: function () {
    return typeof WebSocket !== 'undefined';
  },
  open: function (link) {
    var url = link.url('/ws');
    link.request();
    if (url.charAt(0) === '/') { url = origin(url) + url; }
    var socket = new WebSocket(url.replace(/^http/i, 'ws'));
    socket.onmessage = function (event) {
      link.item(decode(event.data));
    };
    socket.onclose = function () {
      link.end();
    };
    return socket;
  },
  close: function (socket) {
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
});
