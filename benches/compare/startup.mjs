// Measures the time from exec to a 200 at `/readyz`, in ms: with an empty log in memory, with an empty log in Redis,
// and with 100,000 messages of 200 bytes in Redis. Node and redis-server share one CPU, as in the comparison.
//
//   node benches/compare/startup.mjs [--runs 5] [--messages 100000]

import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { freePorts, SERVER_CPU, startRedis } from './subjects.mjs';

const { values: options } = parseArgs({
    options: { runs: { type: 'string', default: '5' }, messages: { type: 'string', default: '100000' } },
});
const root = new URL('../..', import.meta.url).pathname;
const longtail = process.env.LONGTAIL_BIN ?? join(root, 'target/dist/longtail');
const work = join(root, 'target/compare');
mkdirSync(work, { recursive: true });

const FILL = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'channel', 'c' .. i % 5000, 'data', ARGV[2]) end";

const status = (port) => new Promise((done) => {
    http.get({ port, host: '127.0.0.1', path: '/readyz', agent: false }, (answer) => { answer.resume(); done(answer.statusCode); })
        .on('error', () => done(0));
});

async function startUp(args) {
    const port = await freePorts();
    const begun = performance.now();
    const child = spawn('taskset', ['-c', SERVER_CPU, longtail, '--open', '--listen', `127.0.0.1:${port}`, '--tcp-listen', '127.0.0.1:0', ...args], { stdio: 'ignore' });
    const ended = new Promise((done) => { child.on('exit', done); });
    while (await status(port) !== 200) {
        if (child.exitCode !== null || performance.now() - begun > 60_000) throw new Error('it did not become ready');
        await new Promise((done) => setTimeout(done, 2));
    }
    const ms = performance.now() - begun;
    child.kill('SIGKILL');
    await ended;
    return ms;
}

async function median(args) {
    const list = [];
    for (let run = 0; run < Number(options.runs); run++) list.push(await startUp(args));
    list.sort((a, b) => a - b);
    return `${list[Math.floor((list.length - 1) / 2)].toFixed(0)} ms (${list[0].toFixed(0)} to ${list.at(-1).toFixed(0)})`;
}

console.log(`empty, in memory: ${await median([])}`);
const redis = await startRedis(work);
try {
    const args = ['--redis', `redis+unix://${redis.socket}`];
    console.log(`empty, in Redis: ${await median(args)}`);
    execFileSync('redis-cli', ['-s', redis.socket, 'EVAL', FILL, '1', 'longtail:log', options.messages, JSON.stringify('x'.repeat(198))]);
    console.log(`${options.messages} messages in Redis: ${await median(args)}`);
} finally {
    await redis.stop();
}
