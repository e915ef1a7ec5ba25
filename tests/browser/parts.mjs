// The parts of the browser library, in the order in which the server joins them to /client.js (the server's list is in
// `src/serve`; library.mjs compares the two lists).
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

export const root = fileURLToPath(new URL('../..', import.meta.url));
const CORE = ['intro', 'helpers', 'clock', 'http', 'script', 'files', 'responses', 'events', 'backoff', 'link', 'ladder', 'messages',
  'publish', 'connection', 'connect'];
// The best first.
const TRANSPORTS = ['ws', 'sse', 'xhr-stream', 'multipart', 'forever-frame', 'long-poll', 'jsonp', 'poll'];

export const PARTS = [...CORE, ...TRANSPORTS, 'outro'];
// The core without transports, for tests that have their own transports.
export const BARE = [...CORE, 'outro'];
// Files that the library loads when they are first needed. The server has them minified, from static/lazy.
export const LAZY = ['diagnose', 'path', 'share', 'lead', 'slots', 'stream', 'scripts', 'token', 'emit', 'members', 'legacy', 'fetch'];

export const read = name => readFileSync(join(root, `static/client/${name}.js`), 'utf8');

export const joined = parts => parts.map(read).join('');
