// Nodes that share a log, behind a proxy that gives each request to another one.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { startServer, until } from './support.mjs';

const answers = url => until(`${url} to answer`, () => fetch(url).then(response => response.ok || response.status, error => error.message));

// Starts Redis, nodes with these flags, and haproxy. `base` is the address of the proxy. If something fails, nothing
// keeps running.
export async function startCluster(count, flags) {
  const work = mkdtempSync(join(tmpdir(), 'longtail-cluster-'));
  const children = [];
  const stop = () => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(work, { recursive: true, force: true });
  };
  const run = (command, args) => {
    const child = spawn(command, args, { stdio: 'ignore', cwd: work });
    child.on('error', error => { throw error; });
    children.push(child);
  };
  try {
    const [redis, front] = [await freePort(), await freePort()];
    run('redis-server', ['--port', redis, '--save', '', '--appendonly', 'no']);
    const nodes = [];
    for (let n = 0; n < count; n++) {
      const node = await startServer([...flags, '--redis', `redis://127.0.0.1:${redis}/`, '--wait-for-log']);
      children.push(node.child);
      nodes.push(node);
    }
    for (const { base } of nodes) await answers(base + '/readyz');
    const servers = nodes.map(({ base }, n) => `  server n${n} ${base.replace('http://', '')} check inter 200ms fall 1 rise 1\n`).join('');
    writeFileSync(join(work, 'haproxy.cfg'), `global\n  maxconn 400\n
defaults\n  mode http\n  timeout connect 10s\n  timeout check 10s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s
  option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response
frontend web\n  bind 127.0.0.1:${front}\n  default_backend nodes
backend nodes\n  balance roundrobin\n  option http-no-delay\n  option httpchk GET /readyz\n${servers}`);
    run('haproxy', ['-db', '-f', join(work, 'haproxy.cfg')]);
    const base = `http://127.0.0.1:${front}`;
    await answers(base + '/readyz');
    // Over Redis, a node writes control entries when all nodes are known to read them.
    for (const node of nodes) {
      await until('the node to write control entries', async () => {
        const format = /^longtail_log_format (\d)/m.exec(await (await fetch(node.base + '/metrics')).text());
        return Number(format?.[1]) >= 2 || String(format);
      });
    }
    return { base, nodes, stop };
  } catch (error) {
    stop();
    throw error;
  }
}
