// The year in which each transport was invented, and the reason. docs/history.md has the whole story with sources.
'use strict';

Demo.STORY = {
  'tcp': {
    year: 1995, title: 'Raw TCP', short: 'TCP', by: 'Java applet',
    why: 'An applet may open a socket to the host it came from. Bytes in both directions, with nothing around them: as good as it gets.',
    cost: 'Needs a plug-in and a port of its own. Firewalls let HTTP through and little else.',
    hit: ['http_only', 'cut_seconds', 'latency_ms']
  },
  'multipart': {
    year: 1995, title: 'Multipart', short: 'Multipart', by: 'Netscape server push',
    why: 'One answer in parts, each replacing the one before. Made for pictures that move; Mozilla’s scripts could read it later.',
    cost: 'Never in Internet Explorer. A proxy that holds answers back silences it.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'poll': {
    year: 1999, title: 'Polling', short: 'Poll', by: 'XMLHttpRequest',
    why: 'Ask every two seconds. Works everywhere, through everything, for ever.',
    cost: 'Most answers are empty, and messages are late by half the interval.',
    hit: ['latency_ms']
  },
  'forever-frame': {
    year: 2000, title: 'Forever frame', short: 'Frame', by: 'hidden iframe',
    why: 'A hidden page that never finishes loading; each message is a script tag in it. The server speaks first.',
    cost: 'The browser keeps all of it, so it must start again now and then. The throbber turns; old IE clicks.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'long-poll': {
    year: 2006, title: 'Long polling', short: 'Long poll', by: 'when Comet got its name',
    why: 'The request waits at the server until there is a message. The answer ends, so no proxy holds it back.',
    cost: 'A request for each message or batch, with all its headers.',
    hit: ['cut_seconds', 'latency_ms']
  },
  'xhr-stream': {
    year: 2005, title: 'XHR streaming', short: 'XHR', by: 'readyState 3',
    why: 'One answer that does not end, read by a script while it grows. No frame, no clicks.',
    cost: 'The text only grows, so it must start again now and then. Buffers on the path hold it back.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'jsonp': {
    year: 2005, title: 'JSONP', short: 'JSONP', by: 'a script element',
    why: 'A script may come from any host, and it calls a function of the page. So a page could poll another origin years before CORS.',
    cost: 'The page runs whatever that server sends. No status, no abort.',
    hit: ['cut_seconds', 'latency_ms']
  },
  'sse': {
    year: 2006, title: 'Server-Sent Events', short: 'SSE', by: 'EventSource',
    why: 'The stream as a standard: the browser reads it, reconnects by itself, and sends the last id it saw.',
    cost: 'One direction only, and it takes one of six connections to a host on HTTP/1.1.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'ws': {
    year: 2011, title: 'WebSocket', short: 'WebSocket', by: 'RFC 6455',
    why: 'The applet’s socket again, without the applet: frames in both directions, on port 80, after an HTTP handshake.',
    cost: 'Proxies that do not know Upgrade drop it; some kill it later. So the others are still here.',
    hit: ['strip_upgrade', 'http10', 'kill_websockets', 'cut_seconds', 'latency_ms']
  },
  'sse-h2': {
    year: 2015, title: 'SSE over HTTP/2', by: 'RFC 9113',
    why: 'All streams share one connection: the limit of six for each host is gone. Inside TLS no proxy interferes.',
    cost: 'One lost packet delays all of them.',
    hit: []
  },
  'ws-h2': {
    year: 2018, title: 'WebSocket over HTTP/2', by: 'RFC 8441',
    why: 'Extended CONNECT: a WebSocket is a stream of a connection that is already open.',
    cost: 'Server and browser must both offer it, or it opens a connection of its own.',
    hit: []
  },
  'ndjson': {
    year: 2013, title: 'Newline-delimited JSON', by: 'for programs',
    why: 'An answer that does not end, with one JSON object on each line.', cost: '', hit: []
  }
};

// The effect of each kind of weather, and the invention that solved the problem.
Demo.WEATHER = {
  http_only: {
    label: 'Only HTTP', lesson: 'The firewall knows HTTP and nothing else. Raw TCP is refused; everything that looks like HTTP passes. ' +
      'This is why the web had to make do with requests and answers, and Comet was invented.'
  },
  hold_bytes: {
    label: 'Hold back', unit: 'bytes', amounts: [[1024, '1 KiB'], [4096, '4 KiB'], [8192, '8 KiB'], [65536, '64 KiB']], usual: 8192,
    lesson: 'A virus scanner or proxy holds an answer back until there is enough of it, or its end. ' +
      'Streams fall silent: forever frame, XHR streaming, multipart, SSE. Long polling ends each answer, so it passes; so does a WebSocket, which is not an answer.'
  },
  cut_seconds: {
    label: 'Cut', unit: 'seconds', amounts: [[2, '2 s'], [5, '5 s'], [15, '15 s'], [30, '30 s']], usual: 5,
    lesson: 'The path cuts off everything that takes longer. Streams and sockets break and reconnect with their cursor: look for lost messages, there are none. Polling does not notice.'
  },
  http10: {
    label: 'HTTP/1.0', lesson: 'An old proxy speaks HTTP/1.0: no chunks, no kept connections, no Upgrade. ' +
      'Answers end with their connection, so each poll opens a new one, and a WebSocket cannot begin. Streams still run.'
  },
  strip_upgrade: {
    label: 'No Upgrade', lesson: 'The proxy takes Upgrade out of the request, as it must if it does not know it (RFC 9110). ' +
      'The handshake of the WebSocket is then a plain GET, and the server refuses it. Everything else passes, and SSE is the best stream that is left.'
  },
  kill_websockets: {
    label: 'Kill WebSockets', lesson: 'A security box lets the 101 through and cuts the connection 200 ms later: it opens, looks healthy, and dies, again and again. ' +
      'A client must not trust a socket that has only opened; Longtail’s library waits for a second sign of life.'
  },
  latency_ms: {
    label: 'Latency', unit: 'milliseconds', amounts: [[50, '50 ms'], [150, '150 ms'], [300, '300 ms'], [1000, '1 s']], usual: 300,
    lesson: 'Everything is late, in both directions. A poll pays twice, there and back; a stream pays once. Compare the lag of long polling with that of SSE when messages come fast.'
  }
};
