// The matrix of engines and paths.
//   node run.mjs [--quick] [--engines a,b] [--proxies x,y] [--scenario NAME,…] [--write] [--verbose]
// Scenarios: ladder, forced, removed, switches, weather. --quick: a selection that takes two minutes. --write: writes
// the tables into docs/browsers.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ENGINES, closeScreen } from './engines.mjs';
import { PROXIES } from './proxies.mjs';
import * as scenarios from './scenarios.mjs';
import { beVerbose, failures, seconds, stop } from './stage.mjs';

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean' }, write: { type: 'boolean' }, verbose: { type: 'boolean' },
    scenario: { type: 'string' }, engines: { type: 'string' }, proxies: { type: 'string' }
  }
});
const chosen = (given, all, what) => {
  const names = given?.split(',') ?? all;
  for (const name of names) if (!all.includes(name)) throw new Error(`no ${what} ${name}: ${all}`);
  return names;
};
const engines = chosen(flags.engines, Object.keys(ENGINES), 'engine');
const proxies = chosen(flags.proxies, Object.keys(PROXIES), 'proxy');
const which = chosen(flags.scenario, ['ladder', 'forced', 'removed', 'switches', 'weather'], 'scenario');
if (flags.verbose) beVerbose();
// The oldest and the newest of the other engines.
const few = flags.quick && !flags.engines ? ['phantomjs-1.9', 'chromium'] : engines;

/* ---- the page of docs ---- */

function write(name, text) {
  if (!flags.write) return;
  const path = fileURLToPath(new URL('../../../docs/browsers.md', import.meta.url));
  const page = readFileSync(path, 'utf8');
  const marks = [`<!-- ${name}: made by tests/browser/matrix/run.mjs -->`, `<!-- end of ${name} -->`];
  const [begin, end] = marks.map(mark => page.indexOf(mark));
  if (begin < 0 || end < begin) throw new Error(`docs/browsers.md has no ${marks}`);
  writeFileSync(path, page.slice(0, begin + marks[0].length) + '\n' + text + '\n' + page.slice(end));
}

// `row(engine)` returns the cells of one engine.
const table = (heads, row, names = engines) => [['', ...heads], ['', ...heads].map(() => '---'), ...names.map(name => [name, ...row(name)])]
  .map(cells => `| ${cells.join(' | ')} |`).join('\n');

const RUN = {
  ladder: async () => {
    const cells = await scenarios.ladder(engines, proxies, flags.quick);
    write('ladder', table(proxies, engine => proxies.map(proxy => {
      const cell = cells[`${engine} ${proxy}`];
      return cell ? `${cell.transport} ${cell.first} / ${cell.final}` : 'failed';
    })));
    write('engines', engines.map(engine => `- ${engine}: ${ENGINES[engine].version()}`).join('\n'));
    write('proxies', proxies.map(proxy => `- ${proxy}: ${PROXIES[proxy].about}`).join('\n'));
  },
  forced: async () => {
    const works = await scenarios.forced(few);
    const names = ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame', 'long-poll', 'jsonp', 'poll'];
    write('forced', table(names, engine => names.map(name => ({ true: 'yes', false: 'no', undefined: '-' })[works[engine]?.[name]])));
  },
  removed: async () => {
    const ends = await scenarios.removed(few);
    write('removed', table(engines, i => engines.map(engine => ends[engine]?.[i - 1] ?? 'failed'), scenarios.REMOVED.map((_, i) => i + 1)));
    write('lacks', scenarios.REMOVED.map(({ without }, i) => `${i + 1}. ${without.map(name => `\`${name}\``).join(', ')}`).join('\n'));
  },
  switches: async () => {
    const rows = await scenarios.switches(few);
    write('switches', table(['switches', 'messages', 'lost', 'doubled'],
      engine => rows[engine] ? ['hops', 'count', 'lost', 'doubled'].map(name => rows[engine][name]) : Array(4).fill('failed')));
  },
  weather: async () => {
    const rows = await scenarios.weather(few, flags.quick);
    write('weather', table(['changes of the path', 'connections affected', 'changes of transport', 'messages', 'lost', 'doubled'],
      engine => rows[engine] ? ['sky', 'hit', 'changes', 'count', 'lost', 'doubled'].map(name => rows[engine][name]) : Array(6).fill('failed')));
  }
};

const began = Date.now();
for (const name of which) {
  const since = Date.now();
  console.log('--- ' + name);
  await RUN[name]();
  console.log(`--- ${name}: ${seconds(Date.now() - since)} s`);
}
console.log(`${failures.length ? failures.length + ' failed' : 'all passed'} in ${seconds(Date.now() - began)} s`);
for (const failure of failures) console.log('  ' + failure);
closeScreen();
stop();
// Engines and proxies end, and their folders are removed, a moment later.
setTimeout(() => process.exit(failures.length ? 1 : 0), 1000);
