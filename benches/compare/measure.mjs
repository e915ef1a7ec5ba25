// One run: a server on one CPU, and rtload on the other one.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { subjects } from './subjects.mjs';

export const root = new URL('../..', import.meta.url).pathname;
const work = join(root, 'target/compare');
const rtload = join(root, 'target/rtload/release/rtload');

/** The servers by their names. Builds rtload when it is needed first. */
export function servers() {
    mkdirSync(work, { recursive: true });
    if (!existsSync(rtload)) {
        execFileSync('cargo', ['build', '--quiet', '--release', '--manifest-path', join(root, 'benches/rtload/Cargo.toml')],
            { env: { ...process.env, CARGO_TARGET_DIR: join(root, 'target/rtload') }, stdio: 'inherit' });
    }
    return subjects({ longtail: process.env.LONGTAIL_BIN ?? join(root, 'target/dist/longtail'), rtload, work });
}

function load(server, transport, row, seconds) {
    const publish = server.publishTo?.[transport] ?? server.publish;
    const args = ['-c', '1', rtload, 'load', ...server.read[transport], ...row.load, ...publish,
        ...[server.pid].flat().flatMap((pid) => ['--pid', `${pid}`]), '--duration', seconds];
    return new Promise((done, fail) => {
        const child = spawn('taskset', args, { stdio: ['ignore', 'pipe', 'ignore'] });
        let out = '';
        child.stdout.on('data', (text) => { out += text; });
        child.on('exit', () => {
            try { done(JSON.parse(out)); } catch (error) { fail(new Error(`${transport}: ${out || error}`)); }
        });
    });
}

/** Starts a server, reads from it over a transport while rtload publishes, and returns the figures. */
export async function run(start, transport, row, seconds) {
    const server = await start();
    try {
        const report = await load(server, transport, row, seconds);
        return {
            us: report.server.cpu_us_per_delivery,
            p99: report.latency_us.p99 / 1000,
            lost: report.lost,
            expected: report.expected,
            bytes: report.server.rss_bytes_per_conn,
            idle: report.server.cpu_ms_per_idle_s,
            reads: report.reads_per_delivery,
            error: report.first_conn_error || report.pub_first_error,
        };
    } finally {
        await server.stop();
    }
}

export const median = (list) => [...list].sort((a, b) => a - b)[Math.floor((list.length - 1) / 2)];
