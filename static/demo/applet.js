// The lane of raw TCP. A page cannot open a TCP connection, so the server runs a TCP client until this request ends.
// This transport passes the data that the client reads from its socket to the page.
'use strict';

Longtail.transports.push({
  name: 'tcp',
  // Because of `like`, the library never chooses this transport by itself.
  like: 'xhr-stream',
  usable: () => true,
  open(link) {
    // In a frame, this is the reader that changes transports. The server does not count the bytes of that reader for
    // this lane.
    const address = link.url('/demo/applet', typeof Demo === 'undefined' ? 'by=hop' : '');
    const stop = new AbortController();
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
