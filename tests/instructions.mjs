// How many instructions one publish to 100 readers costs, counted by callgrind: a busy machine does not change this
// figure. If the cost grows beyond a bound, this test fails before a user notices.
//
//   cargo build --profile bench && LONGTAIL_BIN=target/release/longtail node tests/instructions.mjs

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const READERS = 100;
const PUBLISHES = 100;

// Per publish, all readers served; user space only, the kernel's share is not counted. Lower the bound when the figure
// falls, and raise it only with a reason in the commit. The build uses `--profile bench`.
const BOUNDS = { direct: 78_000, tasks: 470_000 };

const binary = process.env.LONGTAIL_BIN ?? 'target/release/longtail';

function until(what, met, ms = 60_000) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
        met((value) => { clearTimeout(timer); resolve(value); });
    });
}

async function start(dir, args) {
    const out = join(dir, 'callgrind.out');
    const server = spawn('valgrind', ['--tool=callgrind', `--callgrind-out-file=${out}`, '--instr-atstart=no',
        binary, '--listen', '127.0.0.1:0', '--tcp-listen', 'off', ...args],
        // With one worker, the count does not depend on the scheduling of threads.
        { env: { ...process.env, TOKIO_WORKER_THREADS: '1' }, stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    const address = await until('the server', (done) => {
        server.on('exit', (code) => { throw new Error(`the server ended with ${code}:\n${log}`); });
        server.stderr.on('data', (text) => {
            log += text;
            const found = /listening on http:\/\/([\d.]+):(\d+)/.exec(log);
            if (found && log.includes('the log is read')) done({ host: found[1], port: Number(found[2]) });
        });
    });
    return { server, address, out };
}

class Readers {
    constructor() { this.seen = 0; this.wanted = 0; this.done = () => {}; }

    count(text) {
        this.seen += text.split('"channel":"c"').length - 1;
        if (this.seen >= this.wanted) this.done();
    }

    open(address, agent) {
        return until('a hello', (done) => {
            const request = http.get({ ...address, agent, path: '/sse?channel=c' }, (response) => {
                response.setEncoding('utf8');
                // A message is one write, and arrives in one piece on loopback.
                response.on('data', (text) => { if (text.includes('event: hello')) done(); else this.count(text); });
            });
            request.on('error', () => {});
        });
    }
}

function publish(address, agent) {
    return until('an answer to a publish', (done) => {
        const body = JSON.stringify({ channel: 'c', data: 'x'.repeat(200) });
        const headers = { 'content-type': 'application/json', 'content-length': body.length };
        const request = http.request({ ...address, agent, method: 'POST', path: '/publish', headers }, (response) => {
            response.resume();
            response.on('end', () => done());
        });
        request.end(body);
    });
}

async function publishes(n, readers, address, agent) {
    for (let i = 0; i < n; i++) {
        readers.wanted += READERS;
        const all = until('all readers to have it', (done) => { readers.done = done; });
        await publish(address, agent);
        if (readers.seen < readers.wanted) await all;
        else readers.done();
    }
}

async function count(args) {
    const dir = mkdtempSync(join(tmpdir(), 'instructions-'));
    const { server, address, out } = await start(dir, args);
    try {
        const readers = new Readers();
        const streams = new http.Agent({ keepAlive: true });
        for (let i = 0; i < READERS; i++) await readers.open(address, streams);
        const publisher = new http.Agent({ keepAlive: true, maxSockets: 1 });
        await publishes(20, readers, address, publisher);
        execFileSync('callgrind_control', ['-i', 'on', String(server.pid)], { stdio: 'ignore' });
        await publishes(PUBLISHES, readers, address, publisher);
        execFileSync('callgrind_control', ['-i', 'off', String(server.pid)], { stdio: 'ignore' });
        const ended = until('the server to end', (done) => { server.removeAllListeners('exit'); server.on('exit', done); });
        server.kill('SIGTERM');
        await until('the drain', (done) => setImmediate(done));
        streams.destroy();
        publisher.destroy();
        await ended;
        const total = /^totals: (\d+)/m.exec(readFileSync(out, 'utf8'));
        return Math.round(Number(total[1]) / PUBLISHES);
    } finally {
        server.removeAllListeners('exit');
        server.kill('SIGKILL');
        rmSync(dir, { recursive: true, force: true });
    }
}

let failed = false;
for (const [name, args] of [['direct', []], ['tasks', ['--direct-writes', 'false']]]) {
    const instructions = await count(args);
    const bound = BOUNDS[name];
    console.log(`${name.padEnd(7)} ${instructions} instructions a publish to ${READERS} readers, at most ${bound}`);
    if (!(instructions <= bound)) {
        console.error(`*** more than the bound; what costs them: callgrind_annotate, see docs/performance.md`);
        failed = true;
    }
}
process.exit(failed ? 1 : 0);
