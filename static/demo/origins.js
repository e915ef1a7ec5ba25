// A browser opens six connections to one origin over HTTP/1.1, and most lanes keep one busy. With weather ports, each
// lane has its own origin. Without them, the page looks for other names of the same server.
'use strict';

(() => {
  // One of the six connections stays free for publishing and short requests.
  const HELD = 5;
  const TURN = 4000;
  const HOLDS = new Set(['long-poll', 'jsonp', 'forever-frame', 'xhr-stream', 'multipart', 'sse']);
  // These transports need the page's own origin. A forever frame calls functions of the page. A poll can get a bare 304
  // if there is no new message.
  const AT_HOME = new Set(['forever-frame', 'poll']);

  async function isReachable(base) {
    try {
      return (await fetch(base + '/healthz', { cache: 'no-store', signal: AbortSignal.timeout(2000) })).ok;
    } catch {
      return false;
    }
  }

  async function others() {
    const name = location.hostname;
    const isLocal = name === 'localhost' || name === '127.0.0.1' || name === '[::1]' || name.endsWith('.localhost');
    if (!isLocal || !location.port) return [];
    const names = ['127.0.0.1', 'localhost', 'a.localhost', 'b.localhost', 'c.localhost'].filter(other => other !== name);
    const bases = names.map(other => `${location.protocol}//${other}:${location.port}${Demo.home}`);
    const found = await Promise.all(bases.map(isReachable));
    return bases.filter((_, i) => found[i]);
  }

  // Gives each transport an origin; '' is the page's own. If there are not enough connections, the remaining transports
  // take turns.
  Demo.spread = async transports => {
    if (performance.getEntriesByType('navigation')[0]?.nextHopProtocol === 'h2') {
      return { places: new Map(transports.map(name => [name, ''])), turns: [], text: 'The page came over HTTP/2: all lanes share one connection.' };
    }
    const room = new Map([['', HELD - 1]]); // the reader that changes transports uses one connection there
    for (const origin of await others()) room.set(origin, HELD);
    const places = new Map(transports.map(name => [name, '']));
    const crowded = [];
    let turn = 0;
    const holders = transports.filter(name => HOLDS.has(name)).sort((a, b) => AT_HOME.has(b) - AT_HOME.has(a));
    for (const name of holders) {
      const open = [...room.keys()].filter(origin => room.get(origin) > 0 && (origin === '' || !AT_HOME.has(name)));
      if (!open.length) {
        crowded.push(name);
        continue;
      }
      const rest = open.filter(origin => origin !== '');
      const chosen = AT_HOME.has(name) || !rest.length ? '' : rest[turn++ % rest.length];
      places.set(name, chosen);
      room.set(chosen, room.get(chosen) - 1);
    }
    const turns = crowded.length ? holders.filter(name => places.get(name) === '') : [];
    return {
      places,
      turns,
      text: turns.length
        ? 'A browser opens six connections to one host, and the browser cannot reach this server by another name. So the lanes that keep a connection open take turns. Each lane continues from its cursor.'
        : `A browser opens six connections to one host, so the lanes use ${new Set(places.values()).size} names of this server.`
    };
  };

  Demo.takeTurns = lanes => {
    const held = HELD - 2;
    const queue = lanes.slice();
    for (const lane of queue.slice(held)) setTimeout(() => lane.lt.pause(), 0);
    setInterval(() => {
      const rested = queue[held];
      const tired = queue.shift();
      queue.push(tired);
      if (!tired.isPaused) tired.lt.pause();
      if (rested && !rested.isPaused) rested.lt.resume();
    }, TURN);
  };
})();
