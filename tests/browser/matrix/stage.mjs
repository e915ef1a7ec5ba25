// The base of every scenario: the server, the page in front of it, and the reports of pages.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { ENGINES, launch } from './engines.mjs';
import { binary, env, pause } from '../support.mjs';

export { pause };
export const seconds = ms => (ms / 1000).toFixed(1);

const page = readFileSync(fileURLToPath(new URL('page.html', import.meta.url)));
// The machine that the tests run on has two cores, and a browser takes one of them to start.
const AT_ONCE = 3;
const REPORT_WITHIN = 120000;

const listens = server => new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));

// Waits until the condition is true or the time is over; returns whether it is true.
export async function waitFor(check, within) {
  for (const end = Date.now() + within; Date.now() < end; await pause(100)) if (check()) return true;
  return false;
}

/* ---- the server, and the page in front of it ---- */

async function startServer() {
  const child = spawn(binary, ['--listen', '127.0.0.1:0', '--tcp-listen', 'off', '--heartbeat-seconds', '5'],
    { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const pipe of [child.stdout, child.stderr]) pipe.on('data', chunk => { said = (said + chunk).slice(-20000); });
  let found;
  await waitFor(() => (found = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(said)) || child.exitCode !== null, 60000);
  if (!found) throw new Error('the server did not start: ' + said);
  return { port: Number(found[1]), stop: () => child.kill() };
}

// Serves the page, and passes every other request to the server. So the page, the library and the transports have the
// same origin.
async function startFront(upstream) {
  const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
    // Some proxies treat this server as the next proxy, and send an absolute address.
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
  return { port: await listens(server), stop: () => server.close() };
}

/* ---- what pages report ---- */

const reports = new Map();

// The reports do not use the path that is tested.
async function startReports() {
  const server = http.createServer((request, response) => {
    const query = new URL(request.url, 'http://x').searchParams;
    try {
      const status = JSON.parse(query.get('d'));
      const before = reports.get(status.id);
      if (!before || before.at <= status.at) reports.set(status.id, status);
    } catch { /* cut off: the next one tells it all again */ }
    response.writeHead(200, { 'Content-Type': 'application/javascript', 'Cache-Control': 'no-store' });
    response.end('/**/');
  });
  return { port: await listens(server), stop: () => server.close() };
}

const server = await startServer();
export const front = await startFront(server.port);
const reporter = await startReports();

export function stop() {
  for (const part of [server, front, reporter]) part.stop();
}

export async function publish(channel, data, event = 'message') {
  const answer = await fetch(`http://127.0.0.1:${server.port}/publish`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ channel, data, event })
  });
  if (answer.status !== 200) throw new Error('publishing failed: ' + await answer.text());
}

/* ---- one reader ---- */

let runs = 0;

// Opens the page in an engine through a port, runs `during(run)`, and returns its last report. Messages are published
// from the start on, also for those whose scripts stand still while a request waits.
export async function read(engine, port, settings, during) {
  const id = `r${++runs}`;
  const channel = `matrix-${process.pid}-${runs}`;
  const query = new URLSearchParams({ id, channel, to: `http://127.0.0.1:${reporter.port}`,
    transport: ENGINES[engine].transports ?? '', ...settings });
  // The query is not encoded as a form would be: the page does not decode a plus as a space.
  const opened = await launch(engine, `http://127.0.0.1:${port}/page?${String(query).replace(/\+/g, '%20')}`);
  const run = { id, channel, n: 0, report: () => reports.get(id), send: () => publish(channel, { n: run.n++ }) };
  // Keeps the intended rate, even if sending takes long.
  run.sendEvery = async (ms, more) => {
    for (let next = Date.now(); more(); next += ms) {
      await run.send();
      await pause(Math.max(0, next + ms - Date.now()));
    }
  };
  // Messages that are on their way still arrive; a message that has not arrived by then is lost. In an engine that does
  // not run scripts while a request waits, one more message ends that request.
  run.catchUp = async within => {
    const last = run.n - 1;
    const there = () => run.report().newest >= last;
    for (const end = Date.now() + within; Date.now() < end && !await waitFor(there, 1000);) {
      if (ENGINES[engine].transports) await run.send();
    }
    if (!there()) run.report().lost += last - run.report().newest;
  };
  try {
    const end = Date.now() + REPORT_WITHIN;
    await run.sendEvery(300, () => !run.report() && Date.now() < end);
    if (!run.report()) {
      throw new Error(`the page did not report within ${REPORT_WITHIN / 1000} s: ${opened.log().slice(-1500)}`);
    }
    await during(run);
    return run.report();
  } finally {
    opened.kill();
  }
}

/* ---- verdicts ---- */

export const failures = [];
let verbose = false;
export const beVerbose = () => { verbose = true; };

// Judges one reader: a message that is lost, doubled or out of order, or a gap, is a fault on every path.
export function verdict(name, report, faults = []) {
  const all = faults.slice();
  for (const kind of ['lost', 'doubled', 'gaps']) if (report[kind]) all.push(`${report[kind]} ${kind}`);
  const line = `${name}: ${report.transport}, ${report.count} messages${all.length ? ', ' + all.join(', ') : ''}`;
  console.log((all.length ? 'FAILED ' : 'ok     ') + line);
  if (all.length || verbose) console.log('         ' + report.steps.join('\n         '));
  if (all.length) failures.push(line);
}

// Runs a number of tasks at a time. A task that throws is a failure under its name, and the others continue.
export async function all(tasks) {
  const queue = tasks.slice();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let task = queue.shift(); task; task = queue.shift()) {
      try {
        await task.run();
      } catch (error) {
        failures.push(`${task.name}: ${error.message}`);
        console.log(`FAILED ${task.name}: ${error.stack}`);
      }
    }
  }));
}

// The last transport in a report, and the time at which the reader changed to it.
export function settled(report) {
  const change = report.steps.filter(step => / transport /.test(step)).at(-1);
  return { transport: report.transport, since: Number(change?.split(' ')[0] ?? 0) };
}
