// Compares the protocols of other libraries over WebSocket with Longtail's own: server CPU per delivery as a ratio to the
// native transport in the same pair of runs, with medians over the pairs; and the resident bytes of an idle connection.
//
//   node benches/compare/protocols.mjs [--pairs 5] [--seconds 4] [--rows a,b,g,f,d] [--protocols 'pusher,socket.io 4']
//
// It needs a build with the profile of the packages (LONGTAIL_BIN, or target/dist/longtail by `cargo build --profile dist`).

import os from 'node:os';
import { parseArgs } from 'node:util';
import { median, run, servers } from './measure.mjs';

const PROTOCOLS = ['socket.io 4', 'socket.io 2', 'pusher', 'plain WebSocket'];
const ROWS = {
    a: { title: '1 channel × 1,000 readers, 40 messages/s', load: ['-n', '1000', '--rate', '40'] },
    b: { title: '1 channel × 1,000 readers, one publish at a time', load: ['-n', '1000', '--rate', '0'] },
    g: { title: '1 channel × 1,000 readers, 32 publishes in flight', load: ['-n', '1000', '--rate', '0', '--pub-pipeline', '32'] },
    f: { title: '5,000 channels × 1 reader, 32 publishes in flight', load: ['-n', '5000', '-c', '5000', '--rate', '0', '--pub-pipeline', '32'] },
    d: { title: '10,000 idle connections', load: ['-n', '10000', '--rate', '1', '--hold', '5'] },
};

const { values: options } = parseArgs({
    options: {
        pairs: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '4' },
        rows: { type: 'string', default: Object.keys(ROWS).join() },
        protocols: { type: 'string', default: PROTOCOLS.join() },
    },
});
const { protocols } = servers();
const table = ['| | work | protocol | µs per delivery | µs of native `ws` | ratio | bytes per connection | of native `ws` | lost |', '|---|---|---|---|---|---|---|---|---|'];
for (const key of options.rows.split(',')) {
    const row = ROWS[key];
    for (const protocol of options.protocols.split(',')) {
        const pairs = [];
        for (let pair = 0; pair < Number(options.pairs); pair++) {
            // The order changes, so that neither of the two always has the quieter half.
            const order = pair % 2 ? [protocol, 'ws'] : ['ws', protocol];
            const runs = {};
            for (const transport of order) runs[transport] = await run(protocols, transport, row, options.seconds);
            const [other, native] = [runs[protocol], runs.ws];
            if (other.error) throw new Error(`${protocol}: ${other.error}`);
            pairs.push({ other, native, ratio: other.us / native.us });
        }
        const of = (get) => median(pairs.map(get));
        const lost = pairs.reduce((sum, { other }) => sum + other.lost, 0);
        const expected = pairs.reduce((sum, { other }) => sum + other.expected, 0);
        table.push(`| ${key} | ${row.title} | ${protocol} | ${of(({ other }) => other.us).toFixed(2)} | ${of(({ native }) => native.us).toFixed(2)} | `
            + `${of(({ ratio }) => ratio).toFixed(2)} | ${of(({ other }) => other.bytes)} | ${of(({ native }) => native.bytes)} | ${lost} of ${expected} |`);
        console.log(table.at(-1));
    }
}
console.log(`\n${os.cpus()[0].model.trim()}, ${os.cpus().length} CPUs, Linux ${os.release()}; ${options.pairs} pairs of ${options.seconds} s; `
    + `load average ${os.loadavg()[0].toFixed(1)}\n\n${table.join('\n')}`);
