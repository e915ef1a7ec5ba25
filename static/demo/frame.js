// A reader that runs in a frame of the origin it reads from, since a forever frame calls its own page only. It
// does what the page around it says, and tells it what it hears. Whose page that may be is checked: what is read
// here, pages of other sites may not read.
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
    // A page without an origin of its own says "null".
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

  // It says nothing that only a friend may hear.
  if (parent !== self) parent.postMessage({ longtail: 'ready' }, '*');
})();
