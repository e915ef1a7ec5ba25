// Makes the minified library that the server has at /client.min.js, its files that are loaded when they are first
// needed, and the npm package. Prints a table of sizes.
//   node minify.mjs           writes static/client.min.js, static/lazy/ and package/
//   node minify.mjs --check   fails if the files are out of date, or too large
import { readFileSync, writeFileSync, mkdirSync, existsSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { minify } from 'terser';
import { LAZY, PARTS, joined, read, root } from './parts.mjs';

// The maximum number of gzipped bytes of the core with all transports, and of a file that is loaded on demand.
const MOST = 6144;
const MOST_LAZY = 2048;
const SETTINGS = {
  ecma: 5,
  ie8: true,
  // If a function is used only once, `reduce_funcs` would move it to the place of its use, together with its name. In
  // JScript, this name leaks into the scope around the function. `properties` would take the quotes from properties
  // that ECMAScript 3 reserves as words.
  compress: { passes: 3, properties: false, reduce_funcs: false, typeofs: false, global_defs: { '@undefined': 'void 0' } },
  // Names that begin with an underscore are private to the core. With `builtins`, they can be as short as names of the
  // DOM.
  mangle: { properties: { regex: /^_/, builtins: true } },
  format: { ascii_only: true, keep_quoted_props: true, preamble: '/* MIT OR Apache-2.0 */' }
};

const source = joined(PARTS);
const small = (await minify(source, SETTINGS)).code + '\n';
const exports = ['export default Longtail;', 'export const { connect, newClientId, version } = Longtail;'];
// Node does not load scripts, so its build contains the files that it can use.
const node = ['var self = globalThis;', ...['fetch', 'token', 'stream', 'emit', 'members', 'session'].map(read), source].join('\n');
const text = name => readFileSync(join(root, name), 'utf8');
const types = text('static/package/longtail.d.ts');
const files = {
  'static/client.min.js': small,
  'package/longtail.js': source,
  'package/longtail.min.js': small,
  'package/longtail.mjs': [source, ...exports, ''].join('\n'),
  'package/longtail.node.mjs': [node, ...exports, ''].join('\n'),
  'package/longtail.node.cjs': `${node}\nmodule.exports = Longtail;\nmodule.exports['default'] = Longtail;\n`,
  'package/longtail.cjs': `${source}\nmodule.exports = Longtail;\nmodule.exports['default'] = Longtail;\n`,
  // TypeScript derives the kind of module from the name of a declaration file.
  'package/longtail.d.mts': types.replace(/\nexport as namespace Longtail;\n/, ''),
  'package/longtail.d.cts': types.replace(/\nexport as namespace Longtail;\n/, ''),
  'package/LICENSE-MIT': text('LICENSE-MIT'),
  'package/LICENSE-APACHE': text('LICENSE-APACHE')
};
const table = [['client.min.js', source, small, MOST]];
for (const name of LAZY) {
  const given = read(name);
  // Other properties of the core keep the same name in each file.
  const made = (await minify(given, { ...SETTINGS, mangle: true })).code + '\n';
  files[`static/lazy/${name}.js`] = made;
  table.push([`${name}.js`, given, made, MOST_LAZY]);
}
let isTooLarge = false;
console.log('file              bytes  minified  gzipped  at most');
for (const [name, given, made, most] of table) {
  // Servers compress with zlib, as `gzip` does. Node's own zlib makes the files smaller by about 20 bytes.
  const gzipped = execFileSync('gzip', ['-9n'], { input: made }).length;
  const cells = [name.padEnd(14), ...[given.length, made.length, gzipped, most].map((n, i) => String(n).padStart([9, 10, 9, 9][i]))];
  console.log(cells.join('') + (gzipped > most ? '  too large' : ''));
  isTooLarge ||= gzipped > most;
}
if (isTooLarge) process.exit(1);
for (const [name, text] of Object.entries(files)) {
  const path = join(root, name.replace('package/', 'static/package/'));
  if (process.argv.includes('--check')) {
    // The npm package is created when it is packed. It is not kept in the repository.
    if (name.startsWith('static/') && (!existsSync(path) || readFileSync(path, 'utf8') !== text)) {
      console.error(`${name} is not up to date: run node tests/browser/minify.mjs`);
      process.exit(1);
    }
  } else {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
  }
}
