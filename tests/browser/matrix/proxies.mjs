// Real proxies on the path to the server. Their settings were not chosen for Longtail.
import { spawn } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../ports.mjs';

// `ends`: the transport on which the ladder has to end, and the transport for an engine that cannot use the first one.
export const PROXIES = {
  'direct': { about: 'no proxy', ends: ['ws', 'sse'] },
  'nginx': {
    about: 'nginx with its default settings: HTTP/1.0 to the server, without Upgrade, with buffering',
    ends: ['sse'],
    files: (port, to) => ({ 'nginx.conf': nginx(port, `proxy_pass http://127.0.0.1:${to};`) }),
    command: dir => ['nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')]]
  },
  'nginx-1.1-gzip': {
    about: 'nginx with HTTP/1.1, Upgrade, buffering and gzip, which ignores X-Accel-Buffering',
    ends: ['ws', 'long-poll'],
    files: (port, to) => ({
      'nginx.conf': nginx(port, `proxy_pass http://127.0.0.1:${to};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $kept;
        proxy_ignore_headers X-Accel-Buffering;
        proxy_set_header Host $http_host;`, `gzip on; gzip_min_length 0; gzip_proxied any;
        gzip_types text/plain text/event-stream application/json application/javascript;
        map $http_upgrade $kept { default upgrade; '' close; }`)
    }),
    command: dir => ['nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')]]
  },
  'haproxy': {
    about: 'haproxy that cuts a connection after 3 silent seconds',
    ends: ['ws', 'sse xhr-stream'],
    files: (port, to) => ({
      'haproxy.cfg': `global
  maxconn 200
defaults
  mode http
  timeout connect 2s
  timeout client 3s
  timeout server 3s
  timeout tunnel 3s
frontend in
  bind 127.0.0.1:${port}
  default_backend out
backend out
  server one 127.0.0.1:${to}
`
    }),
    command: dir => ['haproxy', ['-db', '-f', join(dir, 'haproxy.cfg')]]
  },
  'squid': {
    about: 'squid in front of the server, without support for Upgrade',
    ends: ['sse'],
    files: (port, to, dir) => ({
      'squid.conf': `http_port 127.0.0.1:${port} accel defaultsite=127.0.0.1 no-vhost
cache_peer 127.0.0.1 parent ${to} 0 no-query originserver name=one
http_access allow all
cache deny all
access_log none
cache_log ${dir}/cache.log
coredump_dir ${dir}
pid_filename none
cache_effective_user nobody
shutdown_lifetime 0 seconds
pinger_enable off
`
    }),
    // Its shared memory has this name, and remains after the proxy is killed.
    command: dir => ['squid', ['-N', '-n', 'longtail' + process.pid, '-f', join(dir, 'squid.conf')]]
  },
  'privoxy': {
    about: 'privoxy with a text filter, which buffers each filtered response',
    ends: ['xhr-stream'],
    files: (port, to, dir) => ({
      'config': `confdir ${dir}
logdir ${dir}
listen-address 127.0.0.1:${port}
accept-intercepted-requests 1
forward / 127.0.0.1:${to}
actionsfile our.action
filterfile our.filter
`,
      'our.action': '{ +filter{words} }\n/\n',
      'our.filter': 'FILTER: words Looks at all text\ns@unlikely-word@other@g\n'
    }),
    command: dir => ['privoxy', ['--no-daemon', join(dir, 'config')]]
  },
  'mitmproxy': {
    about: 'mitmproxy, which buffers every body until it is complete, as virus scanners do',
    ends: ['ws', 'long-poll'],
    command: (dir, port, to) => ['mitmdump', ['-q', '--mode', `reverse:http://127.0.0.1:${to}`, '--listen-host', '127.0.0.1',
      '--listen-port', String(port), '--set', `confdir=${dir}`, '--set', 'keep_host_header=true']],
    slow: true
  },
  'apache': {
    about: 'apache with mod_proxy and mod_deflate, without mod_proxy_wstunnel',
    ends: ['sse', 'long-poll'],
    files: (port, to, dir) => ({
      'httpd.conf': `ServerRoot ${dir}
ServerName 127.0.0.1
Listen 127.0.0.1:${port}
PidFile ${dir}/pid
Mutex file:${dir}
ErrorLog ${dir}/error.log
${['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'deflate', 'filter', 'env', 'setenvif'].map(name =>
    `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
SetOutputFilter DEFLATE
ProxyPass / http://127.0.0.1:${to}/
ProxyPreserveHost On
`
    }),
    command: dir => ['apache2', ['-D', 'FOREGROUND', '-f', join(dir, 'httpd.conf')]]
  }
};

function nginx(port, location, more = '') {
  return `daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
events { worker_connections 512; }
http {
  access_log off; default_type text/html;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  ${more}
  server { listen 127.0.0.1:${port}; location / { ${location} } }
}
`;
}

const connects = port => new Promise(resolve => {
  const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
  socket.on('error', () => resolve(false));
});

// Starts a proxy in front of a port; returns its own port.
export async function startProxy(name, to) {
  const proxy = PROXIES[name];
  if (!proxy.command) return { port: to, stop: () => {} };
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'longtail-proxy-'));
  // Some of them drop their privileges and then need to write here.
  chmodSync(dir, 0o777);
  mkdirSync(join(dir, 'logs'));
  for (const [file, text] of Object.entries(proxy.files?.(port, to, dir) ?? {})) writeFileSync(join(dir, file), text);
  const [command, args] = proxy.command(dir, port, to);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true,
    env: { ...process.env, PATH: `/usr/sbin:/usr/bin:${process.env.PATH}` } });
  let said = '';
  const hear = chunk => { said = (said + chunk).slice(-4000); };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  child.on('error', error => hear(String(error)));
  const stop = () => {
    try { process.kill(-child.pid, 'SIGKILL'); } catch { /* it is gone */ }
    setTimeout(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }), 300);
  };
  for (let n = 0; n < 600; n++) {
    if (await connects(port)) return { port, stop };
    if (child.exitCode !== null) break;
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  stop();
  throw new Error(`${name} did not start within 60 s: ${said}`);
}
