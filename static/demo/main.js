// The start of the page: asks the server for its transports, and opens a lane for each transport, all at the same
// cursor.
'use strict';

(() => {
  const { byId, make } = Demo;

  // A transport that a browser cannot use is shown as a command that uses it.
  function outside(transport, info) {
    const story = Demo.STORY[transport.name] || { title: transport.name, why: '' };
    const box = make('article', 'outside');
    box.id = 'lane-' + transport.name;
    const title = make('h3', '', story.title);
    title.id = box.id + '-title';
    box.setAttribute('aria-labelledby', title.id);
    let command = `curl -N '${location.origin}${Demo.home}${transport.path}?channel=${Demo.CHANNEL}'`;
    if (transport.name === 'tcp') {
      const [, host, port] = /^(.*):(\d+)$/.exec(info.tcp || '') || [];
      command = port
        ? `printf '%s\\n' '{"type":"subscribe","channels":["${Demo.CHANNEL}"]}' | nc ${host.replace(/^\[|\]$/g, '')} ${port}`
        : '';
    }
    const pre = make('pre', 'mono', command || 'This server has no TCP port open.');
    pre.tabIndex = 0;
    box.append(title, make('p', '', story.why), pre);
    byId('outside').append(box);
  }

  async function ask(path) {
    const answer = await fetch(Demo.home + path, { cache: 'no-store' });
    const reply = await answer.json().catch(() => { throw new Error('status ' + answer.status); });
    if (!answer.ok) throw Object.assign(new Error(reply.error.message), reply.error);
    return reply;
  }

  // Hides all content if this page may not read.
  function guarded(error) {
    for (const part of document.querySelectorAll('main > :not(#no-weather)')) part.hidden = true;
    const hint = byId('no-weather');
    hint.replaceChildren(`This server is guarded: readers and publishers need a token, and this page has none (${error.message}). `,
      'To see the lanes move, start a server that needs no token: ', make('code', '', 'longtail demo'), '. To see what is published on this server, run ',
      make('code', '', 'longtail tail'), ' with a token or a server key.');
    hint.hidden = false;
  }

  // Returns the address of a weather port. If the port listens on all addresses of the server, the host is the page's
  // own host.
  function at(address) {
    const [, host, port] = /^(.*):(\d+)$/.exec(address);
    return `http://${/^(0\.0\.0\.0|\[::\])$/.test(host) ? location.hostname : host}:${port}`;
  }

  // Another machine cannot reach ports on the server's loopback addresses.
  const isNear = name => /^(127\..*|\[::1\]|localhost|.*\.localhost)$/.test(name);
  const reaches = ports => Object.values(ports).every(address => !isNear(address.replace(/:\d+$/, '')) || isNear(location.hostname));

  // A restarted server has other ports. In this case, the page reloads.
  const again = ports => async () => {
    const info = await ask('/info');
    if (JSON.stringify(info.demo?.ports) !== JSON.stringify(ports)) location.reload();
  };

  // Sorts lanes by the year in which their transport was invented.
  const byYear = (a, b) => Demo.STORY[a.id].year - Demo.STORY[b.id].year;

  async function begin() {
    const info = await ask('/info');
    const { cursor } = await ask('/poll?channel=' + Demo.CHANNEL);
    const known = new Set(Longtail.transports.map(transport => transport.name));
    const names = info.transports.filter(t => t.browser && known.has(t.name)).map(t => t.name);
    const demo = info.demo && reaches(info.demo.ports) ? info.demo : null;
    const ports = demo ? demo.ports : {};
    const lanes = [];
    let specs;
    let turns = [];
    let hopNames = names;

    if (demo) {
      await Demo.wire.open(again(ports));
      if (demo.applet) hopNames = ['tcp', ...names];
      specs = hopNames.map(id => ({ id, transport: id, base: id === 'tcp' ? '' : at(ports[id]), hasWire: true, hasPath: true }));
      Demo.say(byId('spread'), 'Each lane has a port, and so an origin, of its own, since a browser opens only six connections to one host.');
    } else {
      const spread = await Demo.spread(names);
      specs = names.map(id => ({ id, transport: id, base: spread.places.get(id) }));
      turns = spread.turns;
      Demo.say(byId('spread'), spread.text);
      byId('no-weather').hidden = false;
      if (info.demo) {
        Demo.say(byId('no-weather'), 'You can use the weather of this server only on its own machine. To use it from here, start the server with --open and, for example, --weather-listen 0.0.0.0:9000.');
      }
    }
    // If the browser loaded the page over HTTP/2, the page also shows the two transports that gain most from HTTP/2, on
    // its own connection.
    if (demo && performance.getEntriesByType('navigation')[0]?.nextHopProtocol === 'h2') {
      for (const transport of ['sse', 'ws']) specs.push({ id: transport + '-h2', transport, base: '' });
    }
    for (const spec of specs) if (!Demo.STORY[spec.id]) Demo.STORY[spec.id] = { year: 2026, title: spec.id, by: '', why: '', cost: '', hit: [] };

    // The page's own reader, with which all lanes are compared. It uses the library as any page does.
    const own = Longtail.connect(Demo.home, { channels: [Demo.CHANNEL], cursor, client: Demo.client });
    own.on('message', message => { if (message.id) Demo.reference.saw(message.id); });
    own.on('gap', () => Demo.reference.restart());

    for (const spec of specs.sort(byYear)) {
      const lane = new Demo.Lane({ ...spec, cursor });
      lanes.push(lane);
      byId('lanes').append(lane.box);
    }
    for (const transport of info.transports.filter(t => !specs.some(spec => spec.id === t.name))) outside(transport, info);
    if (turns.length) Demo.takeTurns(lanes.filter(lane => turns.includes(lane.id)));
    const speak = demo ? Demo.weather(lanes) : () => {};
    Demo.publish(lanes);
    Demo.hop(demo ? at(ports.hop) : '', specs.filter(spec => hopNames.includes(spec.id)).map(spec => spec.id), cursor);

    const axis = byId('lag-axis');
    for (const { at: part, label } of Demo.LAG_MARKS) {
      const mark = make('span', '', label);
      mark.style.left = part * 100 + '%';
      axis.append(mark);
    }
    const table = new Demo.LagTable(byId('lag-table'));
    // The number of seconds for which the page's own reader has not had an answer. The weather does not affect this
    // reader.
    let silent = 0;
    setInterval(() => {
      const now = Date.now();
      table.draw(lanes.map(lane => lane.tick(now)));
      silent = own.state === 'open' || own.state === 'closed' ? 0 : silent + 1;
      if (Demo.isLost !== silent > 2) {
        Demo.isLost = silent > 2;
        speak();
      }
      const { title } = Demo.STORY[own.transport] || { title: '…' };
      Demo.say(byId('own'), 'The page’s own reader: ' + (Demo.isLost ? 'no answer from the server' : `${title}, ${Demo.count(own.stats.messages, 'message')}`));
    }, 1000);
  }

  addEventListener('load', () => {
    begin().catch(error => {
      if (error.code === 'unauthorized' || error.code === 'forbidden') return guarded(error);
      Demo.say(byId('own'), `The server did not say what it offers (${error.message}). Reload to try again.`);
    });
  });
})();
