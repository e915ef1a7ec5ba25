// A reader: a connection of the library, in this page or in a frame of another origin. Both have the same methods.
'use strict';

(() => {
  // A reader in a frame. The page and the frame exchange orders and reports by postMessage.
  function framed(base, options) {
    const { origin } = new URL(base);
    const listeners = {};
    const frame = Demo.make('iframe', 'remote');
    const self = { cursor: options.cursor, state: 'idle', transport: options.transports[0], stats: { requests: 0, messages: 0, repeats: 0, gaps: 0 } };
    let isReady = false;
    // The order that the page sends when the frame is ready.
    let wanted = null;
    let names = options.transports;

    const order = (longtail, more) => frame.contentWindow.postMessage({ longtail, ...more }, origin);

    function load() {
      if (isReady) return;
      // In bad weather, the path may lose the request for the frame's page.
      frame.src = base + '/demo/frame?' + Math.random();
      setTimeout(load, 8000);
    }

    addEventListener('message', event => {
      if (event.source !== frame.contentWindow || event.origin !== origin) return;
      const { longtail: name, detail, facts } = event.data;
      if (name === 'ready') {
        if (isReady) return;
        isReady = true;
        order('connect', { options: { ...options, transports: names } });
        if (wanted) order(wanted);
        return;
      }
      Object.assign(self, facts);
      for (const fn of listeners[name] || []) fn(detail);
    });

    self.on = (name, fn) => { (listeners[name] = listeners[name] || []).push(fn); };
    self.use = list => {
      names = list;
      if (isReady) order('use', { names });
    };
    self.pause = () => {
      if (isReady) order('pause'); else wanted = 'pause';
    };
    self.resume = () => {
      if (isReady) order('resume'); else wanted = null;
    };

    frame.title = 'A reader behind the weather';
    frame.tabIndex = -1;
    frame.setAttribute('aria-hidden', 'true');
    document.body.append(frame);
    load();
    return self;
  }

  // `base`: '' is the page's own origin. A forever frame must run in a page of the origin that it reads from.
  Demo.reader = (base, transports, cursor, more) => {
    const options = { channels: [Demo.CHANNEL], transports, cursor, client: Demo.client, ...more };
    const isAbroad = base !== '' && transports.includes('forever-frame');
    return isAbroad ? framed(base, options) : Longtail.connect(base || Demo.home, options);
  };
})();
