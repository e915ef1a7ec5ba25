// The browser engines, from old to new. Each engine opens one page, which sends its own reports, so the test does not
// need a driver.
import { spawn, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
// Debian's Python packages work only with Debian's own interpreter.
const PYTHON = '/usr/bin/python3';
const JAR = join(here, 'node_modules/selenium-server/lib/runner/selenium-server-standalone-2.35.0.jar');
const CLASSES = join(here, '../../../target/matrix-classes');

const phantom = name => join(here, `node_modules/${name}/bin/linux/x64/phantomjs`);

function classes() {
  if (!existsSync(join(CLASSES, 'HtmlUnit.class'))) {
    mkdirSync(CLASSES, { recursive: true });
    execFileSync('javac', ['-nowarn', '-cp', JAR, '-d', CLASSES, join(here, 'engines/HtmlUnit.java')]);
  }
  return `${JAR}:${CLASSES}`;
}

const htmlunit = version => ({
  like: version.replace('INTERNET_EXPLORER_', 'IE '),
  // This engine runs scripts only between requests, so a stream would stop all of them until the stream ends.
  transports: ['long-poll', 'jsonp', 'poll'],
  command: url => ['java', ['-Xmx256m', '-cp', classes(), 'HtmlUnit', version, url]],
  version: () => 'HtmlUnit 2.12 as ' + version.replace('INTERNET_EXPLORER_', 'IE ')
});

// Its TLS library reads a configuration file of a version other than its own.
const old = { OPENSSL_CONF: '/dev/null', QT_QPA_PLATFORM: '' };

export const ENGINES = {
  'htmlunit-ie6': htmlunit('INTERNET_EXPLORER_6'),
  'htmlunit-ie8': htmlunit('INTERNET_EXPLORER_8'),
  'htmlunit-ie9': htmlunit('INTERNET_EXPLORER_9'),
  'phantomjs-1.9': {
    // Its WebSocket follows a draft that servers no longer support. It reads a compressed answer only when it is
    // complete.
    hopeless: ['ws', 'sse through apache'],
    // It crashes when it reads a modern certificate authority, so it gets a folder without certificate authorities.
    command: (url, dir) => [phantom('phantomjs1'), ['--ssl-certificates-path=' + dir, join(here, 'engines/phantom.js'), url]],
    env: old,
    version: () => 'PhantomJS ' + first(phantom('phantomjs1'), ['--ssl-certificates-path=' + here, '--version'], old) + ' (like Safari 5)'
  },
  'phantomjs-2.1': {
    // Its window keeps this value even if the test removes it.
    keeps: ['localStorage'],
    command: url => [phantom('phantomjs2'), [join(here, 'engines/phantom.js'), url]],
    env: old,
    version: () => 'PhantomJS ' + first(phantom('phantomjs2'), ['--version'], old) + ' (like Safari 8)'
  },
  'qtwebkit': {
    command: url => [PYTHON, [join(here, 'engines/qtwebkit.py'), url]],
    env: { QT_QPA_PLATFORM: 'offscreen', XDG_RUNTIME_DIR: tmpdir() },
    version: () => 'QtWebKit ' + first(PYTHON, ['-c',
      'from PyQt5.QtWebKit import qWebKitVersion; print(qWebKitVersion())']) + ' (5.212)'
  },
  'webkitgtk': {
    command: url => [PYTHON, [join(here, 'engines/webkitgtk.py'), url]],
    screen: true,
    env: { WEBKIT_DISABLE_COMPOSITING_MODE: '1', LIBGL_ALWAYS_SOFTWARE: '1', NO_AT_BRIDGE: '1' },
    version: () => 'WebKitGTK ' + first(PYTHON, ['-c', `import gi
gi.require_version("WebKit2", "4.1")
from gi.repository import WebKit2 as W
print("%d.%d.%d" % (W.get_major_version(), W.get_minor_version(), W.get_micro_version()))`])
  },
  'firefox': {
    command: (url, dir) => {
      // The browser does not open its own pages, and does not ask questions at the start.
      writeFileSync(join(dir, 'user.js'), Object.entries({
        'browser.startup.page': 0, 'browser.aboutwelcome.enabled': false, 'datareporting.policy.dataSubmissionEnabled': false,
        'toolkit.telemetry.reportingpolicy.firstRun': false, 'app.update.auto': false, 'browser.shell.checkDefaultBrowser': false,
        'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false
      }).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`).join(''));
      return ['firefox-esr', ['--headless', '--no-remote', '--profile', dir, url]];
    },
    version: () => first('firefox-esr', ['--version'])
  },
  'chromium': {
    command: (url, dir) => [process.env.CHROMIUM ?? 'chromium', ['--headless=new', '--no-sandbox', '--disable-gpu',
      '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', '--remote-debugging-port=0', '--user-data-dir=' + dir, url]],
    version: () => first(process.env.CHROMIUM ?? 'chromium', ['--version', '--no-sandbox'])
  }
};

function first(command, args, env = {}) {
  const text = execFileSync(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'ignore'] });
  return text.toString().trim().split('\n')[0];
}

let screen;

// All engines that need a screen share one screen.
async function display() {
  if (screen) return screen.name;
  const child = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', '1024x768x24', '-nolisten', 'tcp'],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const name = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('Xvfb did not start within 60 s')), 60000);
    child.on('error', reject);
    child.stdio[3].once('data', number => {
      clearTimeout(timer);
      resolve(':' + number.toString().trim());
    });
  });
  screen = { child, name };
  return name;
}

export function closeScreen() {
  screen?.child.kill();
  screen = undefined;
}

// Opens a page. `log()` returns the output of the engine; `kill()` ends it and all processes that it started.
export async function launch(name, url) {
  const engine = ENGINES[name];
  const dir = mkdtempSync(join(tmpdir(), 'longtail-engine-'));
  const [command, args] = engine.command(url, dir);
  const env = { ...process.env, HOME: dir, ...engine.env };
  if (engine.screen) env.DISPLAY = await display();
  // It has its own process group, because a browser consists of many processes.
  const child = spawn(command, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const hear = chunk => { said = (said + chunk).slice(-8000); };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  child.on('error', error => hear(String(error)));
  return {
    log: () => said,
    kill: () => {
      try { process.kill(-child.pid, 'SIGKILL'); } catch { /* it is gone */ }
      setTimeout(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }), 500);
    }
  };
}
