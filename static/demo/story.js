// The year in which each transport was invented, and the reason. docs/history.md has the whole story with sources.
'use strict';

Demo.STORY = {
  'tcp': {
    year: 1995, title: 'Raw TCP', short: 'TCP', by: 'Java applet',
    why: 'An applet may open a socket to the host from which it was loaded. Bytes flow in both directions, without any framing. No later way was better.',
    cost: 'It needs a plug-in and a separate port. Most firewalls allow only HTTP.',
    hit: ['http_only', 'cut_seconds', 'latency_ms']
  },
  'multipart': {
    year: 1995, title: 'Multipart', short: 'Multipart', by: 'Netscape server push',
    why: 'One answer has many parts, and each part replaces the previous one. Netscape made it for moving pictures. Later, scripts in Mozilla could read the parts.',
    cost: 'Internet Explorer never supported it. It falls silent behind a proxy that holds answers back.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'poll': {
    year: 1999, title: 'Polling', short: 'Poll', by: 'XMLHttpRequest',
    why: 'The page asks every two seconds. This works in every browser and through every proxy.',
    cost: 'Most answers are empty, and a message is late by half the interval on average.',
    hit: ['latency_ms']
  },
  'forever-frame': {
    year: 2000, title: 'Forever frame', short: 'Frame', by: 'hidden iframe',
    why: 'A hidden page never finishes loading, and each message is a script tag in it. So the server can send a message at any time.',
    cost: 'The browser keeps the whole page in memory, so the frame must start again from time to time. The browser shows that the page is loading, and old IE makes click sounds.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'long-poll': {
    year: 2006, title: 'Long polling', short: 'Long poll', by: 'when Comet got its name',
    why: 'The request waits at the server until there is a message. The answer ends, so no proxy holds it back.',
    cost: 'Each message or batch needs a request with all headers.',
    hit: ['cut_seconds', 'latency_ms']
  },
  'xhr-stream': {
    year: 2005, title: 'XHR streaming', short: 'XHR', by: 'readyState 3',
    why: 'One answer does not end, and a script reads it while it grows. It needs no frame, and makes no click sounds.',
    cost: 'The text only grows, so the request must start again from time to time. Buffers on the path hold the text back.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'jsonp': {
    year: 2005, title: 'JSONP', short: 'JSONP', by: 'a script element',
    why: 'A script may come from any host, and it calls a function of the page. So a page could poll another origin years before CORS.',
    cost: 'The page runs any script that the other server sends. It cannot see the status or abort a request.',
    hit: ['cut_seconds', 'latency_ms']
  },
  'sse': {
    year: 2006, title: 'Server-Sent Events', short: 'SSE', by: 'EventSource',
    why: 'A standard for streams: the browser reads the stream, reconnects by itself, and sends the last id that it received.',
    cost: 'It has only one direction. Over HTTP/1.1, it takes one of the six connections to a host.',
    hit: ['hold_bytes', 'cut_seconds', 'latency_ms']
  },
  'ws': {
    year: 2011, title: 'WebSocket', short: 'WebSocket', by: 'RFC 6455',
    why: 'Like the applet’s socket, but without an applet: frames flow in both directions on port 80, after an HTTP handshake.',
    cost: 'Some proxies do not support Upgrade and drop it. Others cut the connection later. So the other transports are still necessary.',
    hit: ['strip_upgrade', 'http10', 'kill_websockets', 'cut_seconds', 'latency_ms']
  },
  'sse-h2': {
    year: 2015, title: 'SSE over HTTP/2', by: 'RFC 9113',
    why: 'All streams share one connection, so the limit of six connections to a host does not matter. A proxy cannot interfere with a connection inside TLS.',
    cost: 'One lost packet delays all streams.',
    hit: []
  },
  'ws-h2': {
    year: 2018, title: 'WebSocket over HTTP/2', by: 'RFC 8441',
    why: 'With Extended CONNECT, a WebSocket is a stream in a connection that is already open.',
    cost: 'Both the server and the browser must support it. Otherwise, the WebSocket opens a separate connection.',
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
    label: 'Only HTTP', lesson: 'The firewall allows only HTTP. It refuses raw TCP, and lets everything pass that looks like HTTP. ' +
      'For this reason, pages had to use requests and answers, and Comet was invented.'
  },
  hold_bytes: {
    label: 'Hold back', unit: 'bytes', amounts: [[1024, '1 KiB'], [4096, '4 KiB'], [8192, '8 KiB'], [65536, '64 KiB']], usual: 8192,
    lesson: 'A virus scanner or a proxy holds an answer back until it has enough bytes, or until the answer ends. ' +
      'Streams fall silent: forever frame, XHR streaming, multipart, SSE. Long polling ends each answer, so it still works. A WebSocket also works, because it is not an answer.'
  },
  cut_seconds: {
    label: 'Cut', unit: 'seconds', amounts: [[2, '2 s'], [5, '5 s'], [15, '15 s'], [30, '30 s']], usual: 5,
    lesson: 'The path cuts every connection that takes longer. Streams and sockets break, and reconnect with their cursor. They do not lose messages. Polling is not affected.'
  },
  http10: {
    label: 'HTTP/1.0', lesson: 'An old proxy speaks HTTP/1.0: it does not support chunks, Upgrade, or several requests on a connection. ' +
      'Each answer ends with its connection. So each poll opens a new connection, and a WebSocket cannot begin. Streams still work.'
  },
  strip_upgrade: {
    label: 'No Upgrade', lesson: 'The proxy removes Upgrade from the request. RFC 9110 requires this from a proxy that does not support Upgrade. ' +
      'The handshake of the WebSocket is then a plain GET, and the server refuses it. All other transports work, and SSE is the best of the remaining streams.'
  },
  kill_websockets: {
    label: 'Kill WebSockets', lesson: 'A middlebox lets the 101 pass, and cuts the connection 200 ms later. So each WebSocket opens and ends at once, again and again. ' +
      'A client must not trust a socket only because it has opened. Longtail’s library waits until a second object arrives.'
  },
  latency_ms: {
    label: 'Latency', unit: 'milliseconds', amounts: [[50, '50 ms'], [150, '150 ms'], [300, '300 ms'], [1000, '1 s']], usual: 300,
    lesson: 'All data is late, in both directions. A poll waits twice, for its request and for its answer. A stream waits once. Compare the lag of long polling and SSE when messages come fast.'
  }
};
