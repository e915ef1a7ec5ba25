// Ports for programs that have to be told one; `node ports.mjs` prints one.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

// Below those that the kernel gives to outgoing connections (from 32768 on), of which one would otherwise be taken between
// being found free and being bound, or while a server that comes back is away. As tests/support/ports.rs has it.
const [FIRST, BEHIND] = [10000, 16000];

const bound = (socket, bind) => new Promise(resolve => {
  socket.once('error', () => resolve(false));
  bind(() => resolve(true));
});

// A port that nobody listens on now, and that no other test is given: a UDP socket on it, which nobody here speaks, is
// the reservation until this process ends.
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
