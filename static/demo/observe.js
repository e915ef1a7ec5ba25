// Observes the events of a reader's transport that a script can see: its requests, their results, and their end. Only
// the server of `longtail demo` can show the bytes themselves.
'use strict';

(() => {
  const watchers = new WeakMap();
  const open = new WeakMap();

  // Calls tell(what, count) for each event; `what` is 'request', 'message', 'control', 'batch' or 'end'.
  Demo.observe = (lt, tell) => watchers.set(lt, tell);

  for (const transport of Longtail.transports) {
    // The library sets the code of some transports later, when it loads a file: see static/client/scripts.js.
    let { open: opens, close: closes } = transport;
    const observed = link => {
      const tell = watchers.get(link.owner);
      if (!tell) return opens.call(transport, link);
      // The prototype is the link, so every later change of the link is also visible through this object.
      const seen = Object.create(link);
      seen.item = object => { tell(object.type === undefined ? 'message' : 'control', 1); link.item(object); };
      seen.batch = batch => { tell('batch', (batch.messages || []).length); link.batch(batch); };
      seen.end = error => { tell('end'); link.end(error); };
      tell('request');
      const handle = opens.call(transport, seen);
      if (handle) open.set(handle, tell);
      return handle;
    };
    const ended = handle => {
      const tell = handle && open.get(handle);
      if (tell) tell('end');
      closes.call(transport, handle);
    };
    Object.defineProperties(transport, {
      open: { get: () => opens && observed, set: code => { if (code !== observed) opens = code; } },
      close: { get: () => closes && ended, set: code => { if (code !== ended) closes = code; } },
    });
  }
})();
