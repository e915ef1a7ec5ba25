// A path whose weather changes: every few seconds, it handles connections differently.
import net from 'node:net';

const KINDS = ['clear', 'hold', 'cut', 'killWebSockets', 'clear', 'stripUpgrade', 'oldHttp', 'blackHole'];

// A proxy in front of a port. It changes nothing until `begin()`.
export async function startWeather(upstream, every = 4000) {
  let kind = 'clear';
  let at = 0;
  let changes = 0;
  let timer = null;
  // How many connections the weather has affected, counted once for each kind of weather.
  let hit = 0;
  const open = new Set();

  const server = net.createServer({ allowHalfOpen: true }, client => {
    const to = net.connect({ port: upstream, host: '127.0.0.1', allowHalfOpen: true });
    const here = { kept: [], size: 0 };
    let isWebSocket = false;
    let first = true;
    let counted = 0;
    const touch = here.touch = () => {
      if (counted !== changes) hit++;
      counted = changes;
    };
    here.end = () => { client.destroy(); to.destroy(); open.delete(here); };
    // Held bytes go out when there are enough of them, or at the end.
    here.flush = () => {
      for (const chunk of here.kept) client.write(chunk);
      here.kept = [];
      here.size = 0;
    };
    // If the path loses some bytes of a connection, it must not deliver later ones, because TCP does not do that. The
    // connection is dead, and neither side knows this.
    function swallowed() {
      if (kind === 'blackHole') here.dead = true;
      if (here.dead) touch();
      return here.dead;
    }
    open.add(here);
    client.on('error', here.end).on('close', here.end);
    to.on('error', here.end);
    client.on('data', chunk => {
      if (swallowed()) return;
      to.write(first ? head(chunk) : chunk);
      first = false;
    });
    client.on('end', () => to.end());
    // If a connection begins in this weather, the path rewrites its heads. The connection then carries only one
    // request.
    function head(chunk) {
      let text = chunk.toString('latin1');
      isWebSocket = /\r\nupgrade: websocket/i.test(text);
      if (kind === 'oldHttp' || (kind === 'stripUpgrade' && isWebSocket)) touch();
      if (kind === 'stripUpgrade' || kind === 'oldHttp') text = text.replace(/\r\n(upgrade|connection): [^\r]*/gi, '');
      if (kind === 'oldHttp') text = text.replace(/ HTTP\/1\.1\r\n/, ' HTTP/1.0\r\n');
      if (kind !== 'clear' && !isWebSocket) {
        text = text.replace(/\r\nconnection: [^\r]*/gi, '').replace('\r\n', '\r\nConnection: close\r\n');
      }
      return Buffer.from(text, 'latin1');
    }
    to.on('data', chunk => {
      if (swallowed()) return;
      if (kind === 'killWebSockets' && isWebSocket) {
        touch();
        setTimeout(here.end, 200);
      }
      if (kind !== 'hold' || isWebSocket) {
        here.flush();
        return client.write(chunk);
      }
      touch();
      here.kept.push(chunk);
      here.size += chunk.length;
      if (here.size > 8192) here.flush();
    });
    to.on('end', () => { here.flush(); client.end(); });
    to.on('close', () => { here.flush(); client.end(); open.delete(here); });
  });

  function change() {
    kind = KINDS[at++ % KINDS.length];
    changes++;
    if (kind === 'cut') {
      for (const here of [...open]) {
        here.touch();
        here.end();
      }
    }
    if (kind === 'clear') for (const here of open) here.flush();
  }

  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    begin: () => { timer = setInterval(change, every); },
    clear: () => {
      clearInterval(timer);
      kind = 'clear';
      for (const here of open) here.flush();
    },
    changes: () => changes,
    hit: () => hit,
    stop: () => {
      clearInterval(timer);
      for (const here of [...open]) here.end();
      server.close();
    }
  };
}
