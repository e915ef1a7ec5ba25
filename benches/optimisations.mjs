// Measures the savings of one optimisation: two builds, or one build with two sets of options, do the same work.
//
//   node benches/optimisations.mjs --on target/release/longtail --off /tmp/without/longtail --rows a,f,e
//   node benches/optimisations.mjs --on target/release/longtail --off 'target/release/longtail --direct-writes false'
//   node benches/optimisations.mjs ... --counts 0 --pairs 7 --rows a,f
//
// Instructions are counted by callgrind, in user space. They do not depend on the load of the machine. CPU time is the
// server's by rtload, with the kernel's share, in pairs that take turns. `--on` and `--off` may begin with environment
// variables (NAME=value). docs/optimisations.md has the results.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
    options: {
        on: { type: 'string', default: 'target/release/longtail' },
        off: { type: 'string' },
        rows: { type: 'string', default: 'a,f,e' },
        pairs: { type: 'string', default: '0' },
        seconds: { type: 'string', default: '2' },
        counts: { type: 'string', default: '1' },
        threads: { type: 'string', default: '1' },
        rtload: { type: 'string', default: 'target/rtload/release/rtload' },
    },
});

/**
 * The rows of docs/performance.md, smaller for callgrind. A turn publishes `batch` messages at once; `load` is for
 * rtload. Row m has many publishers in one channel.
 */
const SSE = { path: 'sse' };
const POLL = { path: 'long-poll' };
const ROWS = {
    a: { ...SSE, readers: 100, channels: 1, batch: 1, turns: 60, load: ['-n', '1000', '--rate', '40'] },
    b: { ...SSE, readers: 100, channels: 1, batch: 1, turns: 60, load: ['-n', '1000', '--rate', '0'] },
    g: { ...SSE, readers: 100, channels: 1, batch: 32, turns: 10, load: ['-n', '1000', '--rate', '0', '--pub-pipeline', '32'] },
    m: { ...SSE, readers: 100, channels: 1, batch: 32, publishers: 32, turns: 10 },
    f: { ...SSE, readers: 200, channels: 200, batch: 32, turns: 60, load: ['-n', '5000', '-c', '5000', '--rate', '0', '--pub-pipeline', '32'] },
    e: { ...POLL, readers: 100, channels: 1, batch: 1, turns: 30, load: ['-n', '1000', '--rate', '20'] },
    h: { ...POLL, readers: 100, channels: 1, batch: 32, turns: 10, load: ['-n', '1000', '--rate', '0', '--messages', '200', '--pub-pipeline', '32'] },
    s19000: { ...SSE, load: ['-n', '19000', '--rate', '2'] },
    d: { ...SSE, load: ['-n', '19000', '--rate', '1', '--hold', '20', '--settle-ms', '3000'] },
    dp: { ...POLL, load: ['-n', '19000', '--rate', '1', '--hold', '5', '--settle-ms', '3000'] },
};
ROWS.rf = { ...ROWS.f, redis: true };
ROWS.rb = { ...ROWS.b, redis: true };

/** The running servers, so that the script can end them after a failure. */
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

function until(what, met, ms = 60_000) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
        met((value) => { clearTimeout(timer); resolve(value); });
    });
}

/** Starts the server with the command `prefix` before it, and waits until it reports its address. */
async function start(prefix, command, row) {
    const words = command.split(' ').filter(Boolean);
    const env = { ...process.env, TOKIO_WORKER_THREADS: options.threads };
    while (/^\w+=/.test(words[0])) {
        const [name, value] = words.shift().split('=');
        env[name] = value;
    }
    const dir = mkdtempSync(join(tmpdir(), 'optimisations-'));
    let redis;
    if (row.redis) {
        redis = spawn('redis-server', ['--port', '0', '--unixsocket', join(dir, 'redis'), '--save', '', '--dir', dir], { stdio: 'ignore' });
        words.push('--redis', `redis+unix://${join(dir, 'redis')}`);
        await new Promise((done) => setTimeout(done, 500));
    }
    const all = [...prefix(dir), ...words, '--open', '--listen', '127.0.0.1:0', '--tcp-listen', 'off'];
    const server = spawn(all[0], all.slice(1), { env, stdio: ['ignore', 'ignore', 'pipe'] });
    running.add(server);
    if (redis) running.add(redis);
    let log = '';
    const port = await until('the server', (done) => {
        server.on('exit', (code) => { throw new Error(`the server ended with ${code}:\n${log}`); });
        server.stderr.on('data', (text) => {
            log += text;
            const found = /http:\/\/[\d.]+:(\d+)/.exec(log);
            if (found && log.includes('the log is read')) done(Number(found[1]));
        });
    });
    server.removeAllListeners('exit');
    const ended = new Promise((done) => server.on('exit', done));
    const stop = async () => {
        server.kill('SIGTERM');
        await ended;
        redis?.kill('SIGKILL');
        const total = /^totals: (\d+)/m.exec((() => { try { return readFileSync(join(dir, 'out'), 'utf8'); } catch { return ''; } })());
        rmSync(dir, { recursive: true, force: true });
        return Number(total?.[1]);
    };
    return { pid: server.pid, redis: redis?.pid, port, stop };
}

/** Clients of one run: they count messages, and a poll asks again. */
class Clients {
    constructor(row, port, pid) { Object.assign(this, { row, port, pid, seen: 0, wanted: 0, sockets: [], asks: [], done: () => {} }); }

    open(index) {
        return until('an answer to a reader', (done) => {
            const socket = net.connect(this.port, '127.0.0.1');
            this.sockets.push(socket);
            socket.setNoDelay(true);
            socket.on('error', () => {});
            const channel = `c${index % this.row.channels}`;
            const ask = (cursor) => socket.write(`GET /${this.row.path}?channel=${channel}&cursor=${cursor} HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n`);
            let text = '';
            socket.on('data', (bytes) => {
                text += bytes;
                if (this.row.path === 'long-poll') {
                    const head = text.indexOf('\r\n\r\n');
                    const length = /content-length: (\d+)/i.exec(text);
                    if (head < 0 || text.length < head + 4 + Number(length[1])) return;
                    const [, cursor] = /"cursor":"([^"]+)"/.exec(text);
                    this.asks.push(() => ask(cursor));
                } else if (text.includes('event: hello')) done();
                this.seen += text.split('"channel":"c').length - 1;
                text = '';
                if (this.seen >= this.wanted) this.done();
            });
            ask('latest');
            if (this.row.path === 'long-poll') setTimeout(done, 5);
        });
    }

    /**
     * Polls that were answered ask again. They all do this at once, while the server is stopped, so that each run
     * counts the same instructions.
     */
    async askAgain() {
        process.kill(this.pid, 'SIGSTOP');
        this.asks.splice(0).forEach((ask) => ask());
        await new Promise((done) => setTimeout(done, 20));
        process.kill(this.pid, 'SIGCONT');
        for (let quiet = 0; quiet < 4;) {
            await new Promise((done) => setTimeout(done, 10));
            const threads = readdirSync(`/proc/${this.pid}/task`).map((id) => readFileSync(`/proc/${this.pid}/task/${id}/stat`, 'utf8'));
            quiet = threads.every((stat) => stat.includes(') S ')) ? quiet + 1 : 0;
        }
    }

    async turn(publishers, nth) {
        const { batch, channels, readers } = this.row;
        this.wanted += batch * readers / channels;
        const all = until('all readers', (done) => { this.done = done; });
        const body = 'x'.repeat(200);
        const head = (n) => `POST /publish?channel=c${n % channels} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 200\r\n\r\n`;
        if (this.row.publishers) process.kill(this.pid, 'SIGSTOP');
        const each = batch / publishers.length;
        publishers.forEach((publisher, k) => {
            publisher.write(Array.from({ length: each }, (_, n) => head(nth * batch + k * each + n) + body).join(''));
        });
        if (this.row.publishers) {
            await new Promise((done) => setTimeout(done, 20));
            process.kill(this.pid, 'SIGCONT');
        }
        await until('answers to publishes', (done) => {
            let answers = 0;
            publishers.forEach((publisher) => {
                publisher.removeAllListeners('data');
                publisher.on('data', (text) => {
                    answers += `${text}`.split('HTTP/1.1 200').length - 1;
                    if (answers >= batch) done();
                });
            });
        });
        if (this.row.path === 'long-poll') {
            for (;;) {
                while (this.asks.length < readers) await new Promise((done) => setTimeout(done, 5));
                await this.askAgain();
                if (this.seen >= this.wanted) break;
            }
        }
        if (this.seen < this.wanted) await all;
        else this.done();
    }
}

/** Instructions per publish in user space. */
async function count(command, row) {
    const callgrind = (dir) => ['valgrind', '--tool=callgrind', `--callgrind-out-file=${join(dir, 'out')}`, '--instr-atstart=no'];
    const { pid, port, stop } = await start(callgrind, command, row);
    const control = (to) => execFileSync('callgrind_control', ['-i', to, `${pid}`], { stdio: 'ignore' });
    const clients = new Clients(row, port, pid);
    for (let i = 0; i < row.readers; i++) await clients.open(i);
    const publishers = Array.from({ length: row.publishers ?? 1 }, () => net.connect(port, '127.0.0.1').setNoDelay(true));
    for (let i = 0; i < 10; i++) await clients.turn(publishers, i);
    control('on');
    for (let i = 0; i < row.turns; i++) await clients.turn(publishers, 10 + i);
    control('off');
    const ended = stop();
    await new Promise((done) => setTimeout(done, 200));
    [...publishers, ...clients.sockets].forEach((socket) => socket.destroy());
    return await ended / (row.turns * row.batch);
}

/** CPU µs a delivery, kernel included. */
async function load(command, row) {
    const server = await start(() => (options.threads === '1' ? ['taskset', '-c', '0'] : []), command, row);
    const base = `http://127.0.0.1:${server.port}`;
    const poll = row.path === 'long-poll';
    const args = [...options.threads === '1' ? ['taskset', '-c', '1'] : ['env'], options.rtload, 'load', '--mode', poll ? 'longpoll' : 'sse', '--url', `${base}/${row.path}?channel={channel}${poll ? '&cursor={cur}' : ''}`,
        ...poll ? ['--cursor', 'cur=after:"cursor":"', '--cursor-init', 'cur=latest'] : [],
        '--pub-http', `${base}/publish?channel={channel}`, ...row.load, '--duration', options.seconds,
        ...[server.pid, server.redis].filter(Boolean).flatMap((pid) => ['--pid', `${pid}`])];
    const out = await new Promise((done) => {
        const child = spawn(args[0], args.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] });
        let text = '';
        child.stdout.on('data', (more) => { text += more; });
        child.on('exit', () => done(JSON.parse(text)));
    });
    await server.stop();
    return { us: out.server.cpu_us_per_delivery, p50: out.latency_us.p50 / 1000, p99: out.latency_us.p99 / 1000,
        rss: out.server.rss_bytes_per_conn, idle: out.server.cpu_ms_per_idle_s };
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor((list.length - 1) / 2)];
for (const key of options.rows.split(',')) {
    const row = ROWS[key];
    const line = { row: key, off: options.off };
    const gain = (on, off) => `${(100 * (1 - on / off)).toFixed(1)}%`;
    if (Number(options.counts) > 0 && row.turns) {
        const counted = async (command) => {
            const list = [];
            for (let i = 0; i < Number(options.counts); i++) list.push(await count(command, row));
            return Math.round(median(list));
        };
        line.instructions = { on: await counted(options.on) };
        if (options.off) line.instructions.off = await counted(options.off);
        if (options.off) line.instructions.gain = gain(line.instructions.on, line.instructions.off);
    }
    const runs = { on: [], off: [] };
    for (let pair = 0; pair < Number(options.pairs); pair++) {
        const order = pair % 2 ? ['on', 'off'] : ['off', 'on'];
        for (const name of order) runs[name].push(await load(options[name], row));
    }
    if (runs.on.length > 0) {
        for (const field of ['us', 'p50', 'p99', 'rss', 'idle']) {
            const of = (name) => Number(median(runs[name].map((run) => run[field] ?? 0)).toFixed(2));
            line[field] = { on: of('on'), off: of('off') };
        }
        const ratios = runs.on.map((run, pair) => 1 - run.us / runs.off[pair].us).sort((a, b) => a - b);
        line.us.gain = `${(100 * median(ratios)).toFixed(1)}% (${(100 * ratios[0]).toFixed(0)} to ${(100 * ratios[ratios.length - 1]).toFixed(0)})`;
    }
    console.log(JSON.stringify(line));
}
