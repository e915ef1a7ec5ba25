// The reports of the server of `longtail demo` about this page's requests: an event for each piece of bytes that enters
// or leaves the path.
'use strict';

(() => {
  const lanes = new Map();
  const weathers = [];
  let weather = null;
  // The offset between the server's clock and the clock of this page. The smallest offset is the most accurate one,
  // because its report arrived after the shortest time.
  let ahead = Infinity;

  Demo.wire = {
    // Calls `fn` with each event of one lane.
    of: (lane, fn) => lanes.set(lane, fn),
    // Calls `fn` with the weather, now and at each change.
    weather(fn) {
      weathers.push(fn);
      if (weather) fn(weather);
    },
    // The function `again` is called when the server works again after an outage.
    open(again) {
      let isFirst = true;
      return new Promise(resolve => {
        function watch() {
          const source = new EventSource(Demo.home + '/demo/wire?client=' + Demo.client);
          source.addEventListener('open', () => {
            if (!isFirst) again();
            isFirst = false;
          });
          source.addEventListener('weather', event => {
            weather = JSON.parse(event.data);
            for (const fn of weathers) fn(weather);
            resolve();
          });
          source.addEventListener('seen', event => {
            const arrived = Date.now();
            for (const seen of JSON.parse(event.data)) {
              ahead = Math.min(ahead, arrived - seen.at);
              const fn = lanes.get(seen.lane);
              if (fn) fn(seen, seen.at + ahead);
            }
          });
          source.addEventListener('missed', event => {
            for (const fn of lanes.values()) fn({ what: 'missed', count: Number(event.data) }, Date.now());
          });
          // The browser reconnects by itself, except after an error status. For example, a proxy answers 502 while the
          // server is not running.
          source.addEventListener('error', () => {
            if (source.readyState === EventSource.CLOSED) setTimeout(watch, 3000);
          });
        }
        watch();
      });
    }
  };

  // Shows the events of one lane as arrows and as bytes. `lane` has a diagram and a log; `heard` is called with each
  // change.
  Demo.follow = (lane, heard) => {
    const connections = new Map();
    const of = number => {
      if (!connections.has(number)) {
        connections.set(number, { asked: [], held: [], span: null, opened: false });
        // Drops connections whose end the page did not see, because it missed events.
        if (connections.size > 64) connections.delete(connections.keys().next().value);
      }
      return connections.get(number);
    };
    const heldBytes = () => {
      let bytes = 0;
      let since = Infinity;
      for (const connection of connections.values()) {
        for (const piece of connection.held) {
          bytes += piece.bytes;
          since = Math.min(since, piece.time);
        }
      }
      return { bytes, since };
    };
    const { diagram, log } = lane;
    const kinds = {
      open(seen) {
        log.add('note', `connection ${seen.connection} opened`);
      },
      sent(seen, time, connection) {
        connection.asked.push(time);
        if (connection.asked.length > 200) connection.asked.shift();
        if (seen.mark === 'request' || !connection.opened) {
          diagram.end(connection.span, time);
          connection.span = diagram.begin(time);
        }
        connection.opened = true;
        log.add('up', `→ ${seen.bytes} B on connection ${seen.connection}`, Demo.readable(Demo.decode(seen.data)));
        heard('bytes', seen.bytes);
      },
      rewritten(seen) {
        log.add('note', 'the path rewrote it to', Demo.readable(Demo.decode(seen.data)));
      },
      forwarded(seen, time, connection) {
        diagram.arrow(connection.asked.shift() || time, 'browser', time, 'server', 'request', 0, '', `${seen.bytes} B to the server`);
      },
      answered(seen, time, connection) {
        const text = Demo.readable(Demo.decode(seen.data));
        const status = /^HTTP\/(\d\.\d) (\d+)/.exec(text);
        // The library loads its files from the same server. The answers to these requests do not belong to the
        // transport.
        const isFile = /\ncontent-type: (text|application)\/javascript/i.test(text) && !/LongtailCall/.test(text);
        if (status && !isFile) heard('protocol', status[2] === '101' ? 'WebSocket' : 'HTTP/' + status[1]);
        const messages = (text.match(/"channel":"/g) || []).length;
        connection.held.push({ time, bytes: seen.bytes, messages });
        diagram.stub(time, 'server', 'path', messages ? 'message' : 'control', `${seen.bytes} B from the server`);
        log.add('down', `← ${seen.bytes} B on connection ${seen.connection}`, text);
      },
      delivered(seen, time, connection) {
        let left = seen.bytes;
        let messages = 0;
        let first = time;
        while (left > 0 && connection.held.length) {
          const piece = connection.held[0];
          const part = Math.min(left, piece.bytes);
          left -= part;
          piece.bytes -= part;
          first = Math.min(first, piece.time);
          if (piece.bytes > 0) break;
          messages += piece.messages;
          connection.held.shift();
        }
        if (time - first > 60) {
          diagram.wait(first, time);
          if (time - first > 400) log.add('note', `held back for ${Demo.time(time - first)}, then ${seen.bytes} B at once`);
        }
        if (seen.bytes) diagram.arrow(time, 'path', time, 'browser', messages ? 'message' : 'control', messages, messages > 1 ? '×' + messages : '', `${seen.bytes} B to the browser`);
        if (seen.mark === 'end') diagram.end(connection.span, time);
        heard('bytes', seen.bytes);
      },
      closed(seen, time, connection) {
        const why = { cut: 'cut', killed: 'killed', moved: 'path changed', 'not-http': 'refused' }[seen.mark];
        if (why) {
          diagram.cross(time, why);
          heard('cut', why);
        }
        diagram.end(connection.span, time);
        log.add('note', `connection ${seen.connection} ` + (why ? `${why} by the path` : 'closed by the ' + (seen.mark === 'client' ? 'browser' : 'server')));
        connections.delete(seen.connection);
      },
      missed(seen) {
        log.add('note', `${seen.count} events came too fast to be shown`);
      }
    };
    Demo.wire.of(lane.id, (seen, time) => {
      const kind = kinds[seen.what];
      if (kind) kind(seen, time, of(seen.connection));
      const held = heldBytes();
      diagram.heldSince = held.bytes > 0 ? held.since : null;
      heard('held', held);
    });
  };
})();
