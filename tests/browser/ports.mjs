// Free ports for programs that need a port as an argument; `node ports.mjs` prints a free port.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

// These ports are below those that the kernel gives to outgoing connections (from 32768 on). The kernel could otherwise
// take a port between the check and the bind, or while a server restarts. tests/support/ports.rs does the same.
const [FIRST, BEHIND] = [10000, 16000];

const bound = (socket, bind) => new Promise(resolve => {
  socket.once('error', () => resolve(false));
  bind(() => resolve(true));
});

// Returns a port that does not have a listener and that no other test gets. A UDP socket on this port reserves it until
// this process ends. The tests do not use UDP otherwise.
export async function freePort() {
  for (let tries = 0; tries < 1000; tries++) {
    const port = FIRST + Math.floor(Math.random() * (BEHIND - FIRST));
    const reserved = createSocket('udp4').unref();
    if (!await bound(reserved, done => reserved.bind(port, '127.0.0.1', done))) continue;
    const server = createServer();
    if (await bound(server, done => server.listen(port, done))) {
      await new Promise(resolve => server.close(resolve));
      return port;
    }
    reserved.close();
  }
  throw new Error(`no free port among 1,000 from ${FIRST} to ${BEHIND}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(await freePort());
