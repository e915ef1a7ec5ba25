// Compares Longtail, the floor, nchan and Socket.IO: server CPU per delivery as a ratio to `rtload bare` in the same
// pair of runs, with medians over the pairs.
//
//   node benches/compare/run.mjs [--pairs 5] [--peers 5] [--seconds 4] [--rows a,b,g,f,e,h,r,s,d] [--write]
//
// `--peers N`: the other servers run only in the first N pairs. The script needs a build with the profile of the
// packages (LONGTAIL_BIN, or target/dist/longtail by `cargo build --profile dist`), nginx and node. With --write, it
// writes the table and the plot to docs/performance.md and docs/performance.svg.

import { readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { median, root, run, servers } from './measure.mjs';
import { plot } from './plot.mjs';

const { values: options } = parseArgs({
    options: {
        pairs: { type: 'string', default: '5' },
        peers: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '4' },
        rows: { type: 'string', default: 'a,b,g,f,e,h,r,s,d' },
        write: { type: 'boolean', default: false },
    },
});
const all = servers();
const measure = (name, transport, row) => run(all[name], transport, row, options.seconds);

const STREAMS = ['sse', 'xhr-stream', 'multipart', 'forever-frame', 'ws', 'tcp'];
const WITH_REDIS = ['bare', 'longtail with Redis', 'nchan with Redis'];
const BUSY = ['--rate', '0', '--pub-pipeline', '32'];
const many = (count) => count.toLocaleString('en');
const ROWS = {
    a: { title: '1 channel × 1,000 readers, 40 messages/s', load: ['-n', '1000', '--rate', '40'], transports: STREAMS, goal: 1.1 },
    b: { title: '1 channel × 1,000 readers, one publish at a time', load: ['-n', '1000', '--rate', '0'], transports: ['sse', 'ws'], goal: 1.15 },
    g: { title: '1 channel × 1,000 readers, 32 publishes in flight', load: ['-n', '1000', '--rate', '0', '--pub-pipeline', '32'], transports: ['sse', 'ws'] },
    f: { title: '5,000 channels × 1 reader, 32 publishes in flight', load: ['-n', '5000', '-c', '5000', '--rate', '0', '--pub-pipeline', '32'], transports: ['sse', 'ws'], goal: 1.5 },
    e: { title: '1,000 long-pollers, 20 messages/s', load: ['-n', '1000', '--rate', '20'], transports: ['long-poll'], goal: 1.2 },
    h: { title: 'a burst of 200 messages to 1,000 long-pollers', load: ['-n', '1000', '--rate', '0', '--messages', '200', '--pub-pipeline', '32'], transports: ['long-poll'] },
    r: [
        { as: 'b', title: 'row b with the log in Redis, including the CPU of Redis', load: ['-n', '1000', '--rate', '0'], transports: ['sse', 'ws'], peers: WITH_REDIS, goal: 1.3 },
        { as: 'f', title: 'row f with the log in Redis, including the CPU of Redis', load: ['-n', '5000', '-c', '5000', '--rate', '0', '--pub-pipeline', '32'], transports: ['sse', 'ws'], peers: WITH_REDIS },
    ],
    // The same number of deliveries per second to few and to many readers; then a message for one reader, in few and in
    // many channels. The floor has one channel per connection, so it has fewer channels in the last row.
    s: [
        ...[[100, 400], [1000, 40], [19000, 2]].map(([readers, rate]) => (
            { as: `${readers}`, title: `1 channel × ${many(readers)} readers, ${rate} messages/s`, load: ['-n', `${readers}`, '--rate', `${rate}`] })),
        ...[100, 5000, 19000].map((channels) => (
            { as: `${channels}`, title: `${many(channels)} channels × 1 reader, 32 publishes in flight`, load: ['-n', `${channels}`, '-c', `${channels}`, ...BUSY] })),
        { as: '50000', title: '50,000 channels × 1 reader (10,000 connections that read five each), 32 publishes in flight',
            load: ['-n', '10000', '-c', '50000', '--per-conn', '5', ...BUSY], floor: ['-n', '10000', '-c', '10000', ...BUSY] },
    ].map((row) => ({ ...row, transports: ['sse'], peers: ['bare', 'longtail'], pairs: 3 })),
    d: { title: '19,000 idle connections', load: ['-n', '19000', '--rate', '1', '--hold', '20'], transports: ['sse', 'ws', 'long-poll'], peers: ['bare', 'longtail'], pairs: 1 },
};
/** The default of `--heartbeat-seconds`. */
const HEARTBEAT_SECONDS = 15;
const isOurs = (name) => name.startsWith('longtail');

/** The floor has three framings. Each framing of Longtail is compared with the most similar one of the floor. */
const floorOf = (transport) => (['ws', 'long-poll'].includes(transport) ? transport : 'sse');

const results = [];
for (const [key, row] of options.rows.split(',').flatMap((key) => [ROWS[key]].flat().map((row) => [key, row]))) {
    for (const transport of row.transports) {
        const floor = floorOf(transport);
        const peers = (row.peers ?? ['bare', 'longtail', 'nchan', 'socket.io']).filter((name) =>
            name !== 'bare' && (isOurs(name) || transport === floor) && (name !== 'socket.io' || transport === 'ws'));
        const runs = Object.fromEntries(peers.map((name) => [name, []]));
        for (let pair = 0; pair < (row.pairs ?? Number(options.pairs)); pair++) {
            const bare = await measure('bare', floor, { ...row, load: row.floor ?? row.load });
            for (const name of peers) {
                if (!isOurs(name) && pair >= Number(options.peers)) continue;
                const run = await measure(name, transport, row);
                runs[name].push({ ...run, bare: bare.us, ratio: run.us / bare.us, bareP99: bare.p99 });
            }
        }
        for (const name of peers) {
            const list = runs[name];
            const of = (field) => median(list.map((run) => run[field]));
            const result = {
                row: row.as ? `${key} (${row.as})` : key, title: row.title, transport, name, goal: isOurs(name) ? row.goal : undefined,
                us: of('us'), bare: of('bare'), ratio: of('ratio'), p99: of('p99'), bareP99: of('bareP99'), bytes: of('bytes'), idle: of('idle'),
                lost: list.reduce((sum, run) => sum + run.lost, 0), expected: list.reduce((sum, run) => sum + run.expected, 0),
            };
            results.push(result);
            console.log(JSON.stringify(result));
        }
    }
}

const number = (value, digits = 2) => (value === null || value === undefined ? '' : value.toFixed(digits));
/** The floor's cost of the same number of sends, in ms per second. A poll does not have heartbeats. */
const heartbeats = ({ transport, bare }) => (transport === 'long-poll' ? '' : number(19_000 / HEARTBEAT_SECONDS * bare / 1000, 1));
const table = [
    '| | work | | server | CPU µs per delivery | CPU µs of bare, same run | ratio | p99, ms | bare\'s p99 | lost |',
    '|---|---|---|---|---|---|---|---|---|---|',
    ...results.filter(({ row }) => row !== 'd').map((r) =>
        `| ${r.row} | ${r.title} | ${r.transport} | ${r.name} | ${number(r.us)} | ${number(r.bare)} | ${number(r.ratio)} | ${number(r.p99, 1)} | ${number(r.bareP99, 1)} | ${r.lost} of ${r.expected} |`),
    '',
    '| | work | | server | resident bytes per connection | CPU ms per second, idle | CPU ms per second, one bare send per heartbeat |',
    '|---|---|---|---|---|---|---|',
    ...results.filter(({ row }) => row === 'd').map((r) =>
        `| ${r.row} | ${r.title} | ${r.transport} | ${r.name} | ${number(r.bytes, 0)} | ${number(r.idle, 1)} | ${heartbeats(r)} |`),
].join('\n');
const where = `${os.cpus()[0].model.trim()}, ${os.cpus().length} CPUs, Linux ${os.release()}; ` +
    `${options.pairs} pairs of ${options.seconds} s (${Math.min(options.pairs, options.peers)} for other servers); the server runs on CPU 0, rtload on CPU 1; load average ${os.loadavg()[0].toFixed(1)}`;
console.log(`\n${where}\n\n${table}`);

if (options.write) {
    const path = join(root, 'docs/performance.md');
    const text = readFileSync(path, 'utf8');
    const [begin, end] = ['<!-- compare: begin -->', '<!-- compare: end -->'];
    const [before, after] = [text.indexOf(begin), text.indexOf(end)];
    if (before < 0 || after < before) throw new Error(`docs/performance.md has no ${begin} … ${end}`);
    writeFileSync(path, `${text.slice(0, before + begin.length)}\n\n${where}.\n\n${table}\n\n${text.slice(after)}`);
    writeFileSync(join(root, 'docs/performance.svg'), plot(results.filter(({ row }) => !/^[ds]/.test(row))));
}
