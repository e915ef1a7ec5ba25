// The servers of the comparison: how to start each server, how to read from it, and how to publish to it.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';

export const SERVER_CPU = '0';

/** A port that is free now, and the next one. */
export async function freePorts() {
    for (;;) {
        const port = await new Promise((done) => {
            const probe = net.createServer().listen(0, '127.0.0.1', () => {
                const { port } = probe.address();
                probe.close(() => done(port));
            });
        });
        const next = await new Promise((done) => {
            const probe = net.createServer().once('error', () => done(false));
            probe.listen(port + 1, '127.0.0.1', () => probe.close(() => done(true)));
        });
        if (next) return port;
    }
}

/** Starts a process on the server's CPU; resolves when `ready` returns true. */
async function start(command, args, ready, endSignal = 'SIGKILL') {
    const child = spawn('taskset', ['-c', SERVER_CPU, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (text) => { said += text; });
    child.stderr.on('data', (text) => { said += text; });
    for (const begun = Date.now(); !(await ready(() => said));) {
        if (child.exitCode !== null || Date.now() - begun > 20_000) throw new Error(`${command} did not start:\n${said}`);
        await new Promise((done) => setTimeout(done, 50));
    }
    return { pid: child.pid, said: () => said, stop: () => new Promise((done) => { child.on('exit', done); child.kill(endSignal); }) };
}

const accepts = (port) => () => new Promise((done) => {
    const probe = net.connect(port, '127.0.0.1', () => { probe.destroy(); done(true); });
    probe.on('error', () => done(false));
});

/** A separate redis-server on the server's CPU. It is empty, and does not write to a disk. */
export async function startRedis(work) {
    const dir = mkdtempSync(join(work, 'redis-'));
    const [port, socket] = [await freePorts(), join(dir, 'redis.sock')];
    const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--unixsocket', socket, '--dir', dir, '--save', '', '--appendonly', 'no'];
    const server = await start('redis-server', args, (said) => said().includes('eady to accept connections at') && existsSync(socket));
    const stop = async () => { await server.stop(); rmSync(dir, { recursive: true, force: true }); };
    return { ...server, stop, port, socket };
}

/** A server together with a redis-server. The CPU time of both counts. */
async function withRedis(work, subject) {
    const redis = await startRedis(work);
    try {
        const server = await subject(redis);
        const stop = async () => { await server.stop(); await redis.stop(); };
        return { ...server, pid: [server.pid, redis.pid], stop };
    } catch (error) {
        await redis.stop();
        throw error;
    }
}

const LONG = 'max_bytes=100000000000&max_time=3600';

export function subjects({ longtail, rtload, work }) {
    const here = {
        async bare() {
            const port = await freePorts();
            const server = await start(rtload, ['bare', '--port', `${port}`, '--pub-port', `${port + 1}`], accepts(port + 1));
            const base = `127.0.0.1:${port}`;
            return {
                ...server,
                publish: ['--pub-line', `127.0.0.1:${port + 1}`],
                read: {
                    sse: ['--mode', 'sse', '--url', `http://${base}/sse/{channel}`],
                    ws: ['--mode', 'ws', '--url', `ws://${base}/ws/{channel}`],
                    'long-poll': ['--mode', 'longpoll', '--url', `http://${base}/lp/{channel}?c={cur}`, '--cursor', 'cur=header:X-Cursor'],
                },
            };
        },

        'longtail with Redis': () => withRedis(work, (redis) => here.longtail('--redis', `redis+unix://${redis.socket}`)),

        'nchan with Redis': () => withRedis(work, (redis) => here.nchan(redis)),

        async longtail(...options) {
            const args = ['--open', '--listen', '127.0.0.1:0', '--tcp-listen', '127.0.0.1:0', ...options];
            const server = await start(longtail, args, (said) => said().includes('the log is read'));
            const base = /http:\/\/(127[\d.]+:\d+)/.exec(server.said())[1];
            const tcp = /tcp:\/\/(127[\d.]+:\d+)/.exec(server.said())[1];
            const stream = (path) => ['--mode', 'stream', '--url', `http://${base}/${path}`];
            return {
                ...server,
                publish: ['--pub-http', `http://${base}/publish?channel={channel}`],
                read: {
                    sse: ['--mode', 'sse', '--url', `http://${base}/sse?channel={channel}`],
                    ws: ['--mode', 'ws', '--url', `ws://${base}/ws?channel={channel}`],
                    'xhr-stream': stream(`xhr-stream?channel={channel}&${LONG}`),
                    multipart: stream(`multipart?channel={channel}&${LONG}`),
                    'forever-frame': stream(`forever-frame?channel={channel}&callback=cb&${LONG}`),
                    tcp: ['--mode', 'tcp', '--url', `tcp://${tcp}`, '--send', '{"type":"subscribe","channels":["{channel}"]}\\n'],
                    'long-poll': ['--mode', 'longpoll', '--url', `http://${base}/long-poll?channel={channel}&cursor={cur}`,
                        '--cursor', 'cur=after:"cursor":"', '--cursor-init', 'cur=latest'],
                },
            };
        },

        /** Longtail with other protocols, whose clients read the channels to which native clients publish. */
        async protocols() {
            const server = await here.longtail('--socketio', '--socketio-on', 'subscribe=join', '--pusher-app', '1:key:secret',
                '--raw-websocket', '/raw/{channel}={channel}');
            const [, base] = /(127[\d.]+:\d+)/.exec(server.read.ws.join());
            const socket = (path, ...frames) => ['--mode', 'ws', '--url', `ws://${base}${path}`, ...frames.flatMap((frame) => ['--send', frame])];
            return {
                ...server,
                publishTo: { 'pusher': ['--pub-http', `http://${base}/publish?channel=1/{channel}`] },
                read: {
                    ...server.read,
                    'socket.io 4': [...socket('/socket.io/?EIO=4&transport=websocket', '40', '42["subscribe","{channel}"]'), '--eio'],
                    'socket.io 2': socket('/socket.io/?EIO=3&transport=websocket', '42["subscribe","{channel}"]'),
                    'pusher': socket('/app/key?protocol=7', '{"event":"pusher:subscribe","data":{"channel":"{channel}"}}'),
                    'plain WebSocket': socket('/raw/{channel}'),
                },
            };
        },

        async nchan(redis) {
            const module = nchanModule(work);
            const port = await freePorts();
            const dir = mkdtempSync(join(work, 'nginx-'));
            const pass = redis ? 'nchan_redis_pass log;' : '';
            writeFileSync(join(dir, 'nginx.conf'), `
                load_module ${module};
                worker_processes 1;
                daemon off;
                user root;
                pid ${dir}/pid;
                error_log ${dir}/error.log;
                events { worker_connections 40000; }
                worker_rlimit_nofile 80000;
                http {
                    access_log off;
                    client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi;
                    uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
                    keepalive_requests 10000000; keepalive_timeout 3600;
                    nchan_shared_memory_size 512M;
                    ${redis ? `upstream log { nchan_redis_server redis://127.0.0.1:${redis.port}; }` : ''}
                    server {
                        listen 127.0.0.1:${port} backlog=4096;
                        # Its default of 10 messages would lose most of a burst for long-pollers.
                        nchan_message_buffer_length 1000;
                        location ~ /pub/(.+)$ { ${pass} nchan_publisher; nchan_channel_id $1; }
                        location ~ /sub/(.+)$ { ${pass} nchan_subscriber; nchan_channel_id $1; nchan_subscriber_first_message newest; }
                    }
                }`);
            // Its workers continue to run if the master is killed.
            const server = await start('nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')], accepts(port), 'SIGTERM');
            const base = `127.0.0.1:${port}`;
            return {
                ...server,
                publish: ['--pub-http', `http://${base}/pub/{channel}`],
                read: {
                    sse: ['--mode', 'sse', '--url', `http://${base}/sub/{channel}`],
                    ws: ['--mode', 'ws', '--url', `ws://${base}/sub/{channel}`],
                    'long-poll': ['--mode', 'longpoll', '--url', `http://${base}/sub/{channel}`,
                        '--cursor', 'lm=header:Last-Modified', '--cursor', 'et=header:Etag',
                        '--header', 'If-Modified-Since: {lm}', '--header', 'If-None-Match: {et}'],
                },
            };
        },

        async 'socket.io'() {
            const here = new URL('.', import.meta.url).pathname;
            if (!existsSync(join(here, 'node_modules/socket.io'))) {
                execFileSync('npm', ['install', '--silent', '--no-fund', '--no-audit'], { cwd: here });
            }
            const port = await freePorts();
            const server = await start(process.execPath, [join(here, 'socketio.mjs'), `${port}`], (said) => said().includes('listening'));
            const base = `127.0.0.1:${port}`;
            return {
                ...server,
                publish: ['--pub-http', `http://${base}/pub/{channel}`],
                read: {
                    ws: ['--mode', 'ws', '--url', `ws://${base}/socket.io/?EIO=4&transport=websocket&room={channel}`, '--send', '40', '--eio'],
                },
            };
        },
    };
    return here;
}

/** Debian's module, unpacked into `work`: if it were installed, every nginx on this machine would load it. */
function nchanModule(work) {
    const installed = '/usr/lib/nginx/modules/ngx_nchan_module.so';
    if (existsSync(installed)) return installed;
    const unpacked = join(work, 'nchan', installed);
    if (!existsSync(unpacked)) {
        execFileSync('sh', ['-c', 'apt-get download libnginx-mod-nchan >/dev/null 2>&1 && dpkg -x libnginx-mod-nchan_*.deb nchan'], { cwd: work });
    }
    return unpacked;
}
