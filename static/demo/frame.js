// A reader that runs in a frame of the origin that it reads from, because a forever frame can call only its own page.
// The page around the frame sends orders and receives the messages of the reader. The frame checks the origin of that
// page, because pages of other sites must not receive these messages.
(() => {
  const isNear = name => name === 'localhost' || name.endsWith('.localhost') || /^127\.|^\[::1\]$/.test(name);
  let lt = null;
  let around = null;

  function tell(event, detail) {
    const { cursor, state, transport, stats } = lt || { stats: {} };
    parent.postMessage({ longtail: event, detail, facts: { cursor, state, transport, stats: { ...stats } } }, around);
  }

  addEventListener('message', event => {
    if (event.source !== parent || parent === self) return;
    // A page without its own origin sends the origin "null".
    if (!/^https?:/.test(event.origin)) return;
    const host = new URL(event.origin).hostname;
    if (host !== location.hostname && !(isNear(host) && isNear(location.hostname))) return;
    const { longtail: order, options, names } = event.data || {};
    if (order === 'connect' && !lt) {
      around = event.origin;
      lt = Longtail.connect(location.pathname.replace(/\/demo\/frame$/, ''), options);
      for (const name of ['state', 'message', 'gap', 'error', 'close', 'transport', 'open']) lt.on(name, detail => tell(name, detail));
      setInterval(() => tell('facts'), 500);
    } else if (lt && event.origin === around) {
      if (order === 'pause') lt.pause();
      if (order === 'resume') lt.resume();
      if (order === 'use') lt.use(names);
    }
  });

  // This message may go to any origin, because it does not contain any secrets.
  if (parent !== self) parent.postMessage({ longtail: 'ready' }, '*');
})();
