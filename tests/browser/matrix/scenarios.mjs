// The scenarios for the engines. Each one returns the data of its table in docs/browsers.md.
import { ENGINES } from './engines.mjs';
import { PROXIES, startProxy } from './proxies.mjs';
import { all, failures, front, pause, publish, read, seconds, settled, verdict } from './stage.mjs';
import { startWeather } from './weather.mjs';

/* ---- the ladder: engine x proxy ---- */

// Longer than the server's heartbeat interval and the timeouts of a proxy that has short timeouts.
const QUIET = 7000;

// `quick`: each engine without a proxy, one engine through each proxy.
export async function ladder(engines, proxies, quick) {
  const cells = {};
  const tasks = [];
  const open = {};
  for (const proxy of proxies) open[proxy] = await startProxy(proxy, front.port);
  for (const proxy of proxies) {
    for (const engine of engines) {
      if (quick && proxy !== 'direct' && engine !== 'chromium') continue;
      const name = `${engine} through ${proxy}`;
      tasks.push({ name, run: async () => {
        const batches = !!ENGINES[engine].transports;
        const goals = (batches ? 'long-poll' : PROXIES[proxy].ends.find(names =>
          ![names, `${names} through ${proxy}`].some(one => ENGINES[engine].hopeless?.includes(one)))).split(' ');
        let end;
        const report = await read(engine, open[proxy].port, {}, async run => {
          // Messages, then silence for a while, then messages until the reader has stayed on the transport that this
          // path allows.
          let until = Date.now() + 4000;
          await run.sendEvery(200, () => Date.now() < until);
          if (!quick || proxy === 'haproxy') await pause(QUIET);
          until = Date.now() + 60000;
          await run.sendEvery(200, () => {
            const now = run.report();
            end = settled(now);
            return Date.now() < until && !(now.first >= 0 && now.state === 'open' && goals.includes(end.transport)
              && now.at - end.since > (quick ? 2000 : 8000));
          });
          await run.catchUp(60000);
        });
        const faults = [];
        if (report.first < 0) faults.push('no message');
        if (!quick && !goals.includes(end.transport)) faults.push(`ended on ${end.transport}, not ${goals}`);
        cells[`${engine} ${proxy}`] = { first: seconds(report.first), final: seconds(end.since), transport: end.transport };
        verdict(`${name} (first ${seconds(report.first)} s, final ${seconds(end.since)} s)`, report, faults);
      } });
    }
  }
  await all(tasks);
  for (const proxy of proxies) open[proxy].stop();
  return cells;
}

/* ---- each transport by itself ---- */

const NASTY = { text: 'a </script> <!-- \u2028 žluť 💧 "\\ end' };
const known = {};

// The transports that an engine can use, according to the library.
async function usable(engine) {
  if (ENGINES[engine].transports) return ENGINES[engine].transports;
  if (!known[engine]) await read(engine, front.port, {}, async run => { known[engine] = run.report().usable.split(','); });
  return known[engine];
}

export async function forced(engines) {
  const table = {};
  await all(engines.map(engine => ({ name: `${engine} by each transport`, run: async () => {
    table[engine] = {};
    for (const transport of await usable(engine)) {
      // The engine claims to have this transport, but the transport never works. The ladder has to detect this by
      // itself.
      const hopeless = ENGINES[engine].hopeless?.includes(transport);
      const report = await read(engine, front.port, { transport, publish: 1 }, async run => {
        const until = Date.now() + (hopeless ? 3000 : 60000);
        await run.sendEvery(100, () => run.report().state !== 'open' && Date.now() < until);
        await publish(run.channel, NASTY, 'nasty');
        const most = run.n + 50;
        await run.sendEvery(20, () => run.n < most);
        await run.sendEvery(500, () => !(run.report().nasty && run.report().published) && Date.now() < until);
        if (!hopeless) await run.catchUp(10000);
      });
      const works = report.count >= 50 && report.nasty === 1 && report.published === report.id;
      table[engine][transport] = works;
      if (!hopeless) {
        verdict(`${engine} by ${transport}`, report, works ? [] : [`nasty ${report.nasty}, published "${report.published}"`]);
      } else if (works) {
        failures.push(`${engine} by ${transport} works after all`);
      } else {
        console.log(`ok     ${engine} by ${transport}: does not work there, as is known`);
      }
    }
  } })));
  return table;
}

/* ---- what a browser lacks ---- */

const NO_XHR = ['XMLHttpRequest', 'ActiveXObject', 'XDomainRequest'];

// The features that the test removes before it loads the minified library, and the transport on which the ladder then
// ends: with streams, and in an engine that uses batches.
export const REMOVED = [
  { without: ['WebSocket'], ends: 'sse' },
  { without: ['WebSocket', 'EventSource'], ends: 'xhr-stream' },
  // An XMLHttpRequest that delivers its answer only when it is complete, as in 2005.
  { without: ['WebSocket', 'EventSource', 'progress'], ends: 'long-poll' },
  // An XMLHttpRequest without CORS. It does not have a property that shows whether it can stream.
  { without: ['WebSocket', 'EventSource', 'withCredentials'], ends: 'forever-frame' },
  { without: ['WebSocket', 'EventSource', ...NO_XHR], ends: 'forever-frame', batches: 'jsonp' },
  { without: ['JSON', 'localStorage'], ends: 'ws' },
  { without: ['WebSocket', 'EventSource', 'JSON', 'localStorage', ...NO_XHR], ends: 'forever-frame', batches: 'jsonp' }
];

export async function removed(engines) {
  const table = {};
  const tasks = engines.flatMap(engine => REMOVED.map(({ without, ends, batches = 'long-poll' }, i) => {
    const name = `${engine} without ${without}`;
    const goal = ENGINES[engine].transports ? batches : ENGINES[engine].hopeless?.includes(ends) ? 'sse' : ends;
    return { name, run: async () => {
      let end;
      const report = await read(engine, front.port, { without, publish: 1, min: 1 }, async run => {
        const until = Date.now() + 60000;
        await run.sendEvery(100, () => {
          end = settled(run.report());
          return Date.now() < until && !(end.transport === goal && run.report().published && run.report().at - end.since > 2000);
        });
        await run.catchUp(60000);
      });
      const faults = [];
      const kept = report.kept.filter(name => !ENGINES[engine].keeps?.includes(name));
      if (kept.length) faults.push(`${kept} could not be taken away`);
      if (end.transport !== goal) faults.push(`ended on ${end.transport}, not ${goal}`);
      if (report.published !== report.id) faults.push(`published "${report.published}"`);
      (table[engine] ??= [])[i] = end.transport;
      verdict(name, report, faults);
    } };
  }));
  await all(tasks);
  return table;
}

/* ---- from each transport to each other ---- */

// A path through all ordered pairs of the names, each once (Hierholzer's algorithm).
export function tour(names) {
  const left = new Map(names.map(name => [name, names.filter(other => other !== name)]));
  const way = [];
  const stack = [names[0]];
  while (stack.length) {
    const next = left.get(stack.at(-1)).pop();
    if (next) stack.push(next); else way.push(stack.pop());
  }
  return way.reverse();
}

export async function switches(engines) {
  const rows = {};
  await all(engines.map(engine => ({ name: `${engine} from each transport to each other`, run: async () => {
    const way = tour((await usable(engine)).filter(name => !ENGINES[engine].hopeless?.includes(name)));
    const report = await read(engine, front.port, { transport: way[0], tour: way }, async run => {
      const until = Date.now() + 120000;
      await run.sendEvery(25, () => Date.now() < until && run.report().hops < way.length - 1);
      await run.catchUp(10000);
    });
    rows[engine] = { hops: report.hops, count: report.count, lost: report.lost, doubled: report.doubled };
    verdict(`${engine} through ${report.hops} switches`, report,
      report.hops === way.length - 1 ? [] : [`${report.hops} of ${way.length - 1} switches, next ${way[report.hops + 1]}`]);
  } })));
  return rows;
}

/* ---- weather that changes ---- */

export async function weather(engines, quick) {
  const rows = {};
  const messages = quick ? 300 : 2000;
  await all(engines.map(engine => ({ name: `${engine} in changing weather`, run: async () => {
    const sky = await startWeather(front.port, quick ? 1500 : 4000);
    try {
      let took = 0;
      const report = await read(engine, sky.port, {}, async run => {
        // The reader has to get all messages after its first message.
        await run.sendEvery(200, () => run.report().first < 0);
        const began = Date.now();
        const most = run.n + messages;
        sky.begin();
        await run.sendEvery(40, () => run.n < most);
        sky.clear();
        await run.catchUp(60000);
        took = Date.now() - began;
      });
      rows[engine] = { sky: sky.changes(), hit: sky.hit(), changes: report.changes, count: report.count, lost: report.lost, doubled: report.doubled };
      verdict(`${engine} in changing weather (${sky.changes()} changes that hit ${sky.hit()} connections, ${seconds(took)} s)`, report,
        report.count >= messages ? [] : [`${report.count} of ${messages}`]);
    } finally {
      sky.stop();
    }
  } })));
  return rows;
}
