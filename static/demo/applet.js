// The lane of raw TCP. A page cannot open such a connection, so a client of that kind runs in the server, for as
// long as this request does; what it reads from its socket is handed on here.
'use strict';

Longtail.transports.push({
  name: 'tcp',
  // Never chosen by itself.
  like: 'xhr-stream',
  usable: () => true,
  open(link) {
    // In a frame it is the reader that hops, whose bytes are not this lane's.
    const address = link.url('/demo/applet', typeof Demo === 'undefined' ? 'by=hop' : '');
    const stop = new AbortController();
    link.request();
    (async () => {
      const answer = await fetch(address, { signal: stop.signal, cache: 'no-store' });
      if (!answer.ok) throw new Error('status ' + answer.status);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done || !link.live()) break;
        const lines = (rest + value).split('\n');
        rest = lines.pop();
        for (const line of lines) if (line.trim()) link.item(JSON.parse(line));
      }
      link.end();
    })().catch(error => {
      if (!stop.signal.aborted) link.end({ code: 'unreachable', message: error.message });
    });
    return stop;
  },
  close(stop) {
    stop.abort();
  }
});
