// The matrix of engines and paths.
//   node run.mjs [--quick] [--engines a,b] [--proxies x,y] [--scenario ladder|forced|removed|weather] [--write]
// --quick: every engine without a proxy, Chromium through every proxy. --write: the tables go into docs/browsers.md.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ENGINES, closeScreen, launch } from './engines.mjs';
import { PROXIES, startProxy } from './proxies.mjs';
import { startWeather } from './weather.mjs';
import { binary, env } from '../support.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../../..', import.meta.url));
const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean' }, write: { type: 'boolean' }, scenario: { type: 'string' },
    engines: { type: 'string' }, proxies: { type: 'string' }, verbose: { type: 'boolean' }
  }
});
const engines = flags.engines?.split(',') ?? Object.keys(ENGINES);
const proxies = flags.proxies?.split(',') ?? Object.keys(PROXIES);
for (const name of engines) if (!ENGINES[name]) throw new Error(`no engine ${name}: ${Object.keys(ENGINES)}`);
for (const name of proxies) if (!PROXIES[name]) throw new Error(`no proxy ${name}: ${Object.keys(PROXIES)}`);

// The machine that the tests run on has two cores, and a browser takes one of them to start.
const AT_ONCE = 3;
const SETTLED = flags.quick ? 4000 : 8000;

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const failures = [];
const reports = new Map();

/* ---- the server, and the page in front of it ---- */

async function startServer() {
  const child = spawn(binary, ['--listen', '127.0.0.1:0', '--tcp-listen', 'off', '--heartbeat-seconds', '5'],
    { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (let n = 0; n < 100; n++) {
    const found = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(said);
    if (found) return { port: Number(found[1]), stop: () => child.kill() };
    if (n === 0) for (const pipe of [child.stdout, child.stderr]) pipe.on('data', chunk => { said += chunk; });
    await pause(100);
  }
  throw new Error('the server did not start: ' + said);
}

// Has the page, and hands everything else on as it comes. So page, library and transports have one origin.
function startFront(upstream) {
  const page = readFileSync(here + 'page.html');
  const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
    // Some proxies take us for the next proxy, and name us in full.
    request.url = request.url.replace(/^http:\/\/[^/]*/, '');
    if (request.url.startsWith('/page')) {
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' });
      return response.end(page);
    }
    const passed = http.request({ port: upstream, host: '127.0.0.1', method: request.method, path: request.url, headers: request.headers });
    passed.on('response', answer => {
      response.writeHead(answer.statusCode, answer.rawHeaders.filter((_, i, all) =>
        !/^(connection|transfer-encoding|keep-alive)$/i.test(all[i - i % 2])));
      response.flushHeaders();
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    passed.on('error', () => response.destroy());
    response.on('close', () => passed.destroy());
    request.pipe(passed);
  });
  server.on('upgrade', (request, socket, head) => {
    const to = net.connect(upstream, '127.0.0.1');
    const lines = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    to.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
    to.write(head);
    socket.pipe(to).pipe(socket);
    const end = () => { socket.destroy(); to.destroy(); };
    socket.on('error', end).on('close', end);
    to.on('error', end).on('close', end);
  });
  server.requestTimeout = 0;
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port, stop: () => server.close() })));
}

// Where pages report to, beside the path that is tested.
function startReports() {
  const server = http.createServer((request, response) => {
    const query = new URL(request.url, 'http://x').searchParams;
    try {
      const status = JSON.parse(query.get('d'));
      const before = reports.get(status.id);
      if (!before || before.at <= status.at) reports.set(status.id, { ...status, heard: Date.now() });
    } catch { /* cut off: the next one tells it all again */ }
    response.writeHead(200, { 'Content-Type': 'application/javascript', 'Cache-Control': 'no-store' });
    response.end('/**/');
  });
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port, stop: () => server.close() })));
}

const server = await startServer();
const front = await startFront(server.port);
const reporter = await startReports();

async function publish(channel, data, event = 'message') {
  const answer = await fetch(`http://127.0.0.1:${server.port}/publish`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ channel, data, event })
  });
  if (answer.status !== 200) throw new Error('publishing failed: ' + await answer.text());
}

/* ---- one reader ---- */

let runs = 0;

// Opens the page in an engine through a port, runs `during(run)`, and answers its last report.
async function read(engine, port, query, during, early = false) {
  const id = `r${++runs}`;
  const channel = `matrix-${process.pid}-${runs}`;
  const url = `http://127.0.0.1:${port}/page?id=${id}&channel=${channel}&to=${encodeURIComponent(`http://127.0.0.1:${reporter.port}`)}${query}`;
  const opened = await launch(engine, /&transport=/.test(query) || !ENGINES[engine].transports
    ? url : `${url}&transport=${ENGINES[engine].transports}`);
  const run = { id, channel, n: 0, report: () => reports.get(id), send: () => publish(channel, { n: run.n++ }) };
  try {
    for (let n = 0; n < 450 && !run.report(); n++) {
      await pause(100);
      // For those whose scripts stand still while a request waits.
      if (early && n % 3 === 0) await run.send();
    }
    if (!run.report()) throw new Error(`the page did not report within 45 s: ${opened.log().slice(-1500)}`);
    await during(run);
    return run.report();
  } finally {
    opened.kill();
  }
}

// Runs tasks, so many at a time.
async function all(tasks, most = AT_ONCE) {
  const queue = tasks.slice();
  await Promise.all(Array.from({ length: most }, async () => {
    for (let task = queue.shift(); task; task = queue.shift()) await task();
  }));
}

function check(name, report, faults) {
  if (report.lost) faults.push(`${report.lost} lost`);
  if (report.doubled) faults.push(`${report.doubled} doubled`);
  if (report.gaps) faults.push(`${report.gaps} gaps`);
  const line = `${name}: ${report.transport}, ${report.count} messages${faults.length ? ', ' + faults.join(', ') : ''}`;
  console.log((faults.length ? 'FAILED ' : 'ok     ') + line);
  if (faults.length || flags.verbose) console.log('         ' + report.steps.join('\n         '));
  if (faults.length) failures.push(line);
}

const seconds = ms => (ms / 1000).toFixed(1);

/* ---- the ladder: engine x proxy ---- */

async function ladder() {
  const cells = {};
  const tasks = [];
  const open = {};
  for (const proxy of proxies) open[proxy] = await startProxy(proxy, front.port);
  for (const proxy of proxies) {
    for (const engine of engines) {
      if (flags.quick && proxy !== 'direct' && engine !== 'chromium') continue;
      tasks.push(async () => {
        const name = `${engine} through ${proxy}`;
        try {
          let since = 0;
          const report = await read(engine, open[proxy].port, '', async run => {
            const end = Date.now() + 60000;
            // Settled: the same transport for some time, with messages.
            while (Date.now() < end) {
              await run.send();
              await pause(200);
              const now = run.report();
              const changes = now.steps.filter(step => / transport /.test(step));
              since = Number(changes.at(-1)?.split(' ')[0] ?? 0);
              if (now.first >= 0 && now.state === 'open' && now.at - since > SETTLED) break;
            }
            // What is under way still comes.
            for (let n = 0; n < 60 && run.report().newest < run.n - 1; n++) await pause(100);
            if (run.report().newest < run.n - 1) run.report().lost += run.n - 1 - run.report().newest;
          }, true);
          const faults = [];
          if (report.first < 0) faults.push('no message');
          cells[`${engine} ${proxy}`] = { first: seconds(report.first), final: seconds(since), transport: report.transport };
          check(`${name} (first ${seconds(report.first)} s, final ${seconds(since)} s)`, report, faults);
        } catch (error) {
          failures.push(`${name}: ${error.message}`);
          console.log('FAILED ' + name + ': ' + error.message);
        }
      });
    }
  }
  await all(tasks);
  for (const proxy of proxies) open[proxy].stop();
  return cells;
}

/* ---- each transport by itself ---- */

const NASTY = { text: 'a </script> <!-- \u2028 žluť 💧 "\\ end' };

async function forced() {
  const table = {};
  const tasks = engines.map(engine => async () => {
    let usable = null;
    try {
      await read(engine, front.port, '', async run => { usable = ENGINES[engine].transports ?? run.report().usable.split(','); });
    } catch (error) {
      failures.push(`${engine}: ${error.message}`);
      return console.log('FAILED ' + engine + ': ' + error.message);
    }
    table[engine] = {};
    for (const transport of usable) {
      // Said to be there, and known never to work in this engine: the ladder has to find that out by itself.
      const hopeless = ENGINES[engine].hopeless?.includes(transport);
      try {
        const report = await read(engine, front.port, `&transport=${transport}&publish=1`, async run => {
          for (let n = 0; n < (hopeless ? 30 : 150) && run.report().state !== 'open'; n++) await pause(100);
          for (let n = 0; n < 50; n++) { await run.send(); await pause(20); }
          await publish(run.channel, NASTY, 'nasty');
          const done = () => run.report().newest === 49 && run.report().nasty === 1 && run.report().published;
          for (let n = 0; n < (hopeless ? 10 : 150) && !done(); n++) await pause(100);
        });
        const works = report.newest === 49 && report.nasty === 1 && report.published === report.id;
        table[engine][transport] = works;
        if (hopeless) {
          console.log(`ok     ${engine} by ${transport}: does not work there, as is known`);
          if (works) failures.push(`${engine} by ${transport} works after all`);
          continue;
        }
        check(`${engine} by ${transport}`, report, works ? [] : [`newest ${report.newest}, nasty ${report.nasty}, published "${report.published}"`]);
      } catch (error) {
        failures.push(`${engine} by ${transport}: ${error.message}`);
        console.log(`FAILED ${engine} by ${transport}: ${error.message}`);
      }
    }
  });
  await all(tasks);
  return table;
}

/* ---- weather that changes ---- */

async function weather() {
  const rows = {};
  const MESSAGES = flags.quick ? 300 : 2000;
  await all(engines.map(engine => async () => {
    const sky = await startWeather(front.port);
    try {
      let took = 0;
      const report = await read(engine, sky.port, '', async run => {
        for (let n = 0; n < 200 && run.report().state !== 'open'; n++) await pause(100);
        const began = Date.now();
        sky.begin();
        for (let n = 0; n < MESSAGES; n++) {
          await run.send();
          // As many a second as were meant, however long the sending takes.
          const wait = began + n * 40 - Date.now();
          if (wait > 0) await pause(wait);
        }
        sky.clear();
        for (let n = 0; n < 600 && run.report().newest < MESSAGES - 1; n++) await pause(100);
        took = Date.now() - began;
      });
      const changes = report.steps.filter(step => / transport /.test(step)).length;
      rows[engine] = { changes: sky.changes(), count: report.count, lost: report.lost, doubled: report.doubled, transports: changes };
      const faults = report.count === MESSAGES ? [] : [`${report.count} of ${MESSAGES}`];
      check(`${engine} in changing weather (${sky.changes()} changes, ${seconds(took)} s)`, report, faults);
    } catch (error) {
      failures.push(`${engine} in changing weather: ${error.message}`);
      console.log(`FAILED ${engine} in changing weather: ${error.message}`);
    } finally {
      sky.stop();
    }
  }));
  return rows;
}

/* ---- the page of docs ---- */

function write(name, text) {
  const path = root + 'docs/browsers.md';
  const page = readFileSync(path, 'utf8');
  const marks = [`<!-- ${name}: made by tests/browser/matrix/run.mjs -->`, `<!-- end of ${name} -->`];
  const [begin, end] = marks.map(mark => page.indexOf(mark));
  if (begin < 0 || end < begin) throw new Error(`docs/browsers.md has no ${marks}`);
  writeFileSync(path, page.slice(0, begin + marks[0].length) + '\n' + text + '\n' + page.slice(end));
}

const began = Date.now();
const which = flags.scenario ? [flags.scenario] : flags.quick ? ['ladder'] : ['ladder', 'forced', 'weather'];
for (const scenario of which) {
  console.log('--- ' + scenario);
  if (scenario === 'ladder') {
    const cells = await ladder();
    if (flags.write) {
      write('ladder', [`| | ${proxies.join(' | ')} |`, `|---|${proxies.map(() => '---|').join('')}`,
        ...engines.map(engine => `| ${engine} | ${proxies.map(proxy => {
          const cell = cells[`${engine} ${proxy}`];
          return cell ? `${cell.transport} ${cell.first} / ${cell.final}` : '';
        }).join(' | ')} |`)].join('\n'));
      write('engines', engines.map(engine => `- ${engine}: ${ENGINES[engine].version()}`).join('\n'));
      write('proxies', proxies.map(proxy => `- ${proxy}: ${PROXIES[proxy].about}`).join('\n'));
    }
  } else if (scenario === 'forced') {
    const table = await forced();
    const names = ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame', 'long-poll', 'jsonp', 'poll'];
    if (flags.write) {
      write('forced', [`| | ${names.join(' | ')} |`, `|---|${names.map(() => '---|').join('')}`,
        ...engines.map(engine => `| ${engine} | ${names.map(name =>
          ({ true: 'yes', false: 'no', undefined: '-' })[table[engine]?.[name]]).join(' | ')} |`)].join('\n'));
    }
  } else if (scenario === 'weather') {
    const rows = await weather();
    if (flags.write) {
      write('weather', ['| | changes of weather | changes of transport | messages | lost | doubled |', '|---|---|---|---|---|---|',
        ...engines.map(engine => rows[engine]).map((row, i) => row
          ? `| ${engines[i]} | ${row.changes} | ${row.transports} | ${row.count} | ${row.lost} | ${row.doubled} |` : `| ${engines[i]} | |`)].join('\n'));
    }
  } else {
    throw new Error('no scenario ' + scenario);
  }
}
console.log(`${failures.length ? failures.length + ' failed' : 'all passed'} in ${seconds(Date.now() - began)} s`);
for (const failure of failures) console.log('  ' + failure);
closeScreen();
server.stop();
front.stop();
reporter.stop();
setTimeout(() => process.exit(failures.length ? 1 : 0), 700);
