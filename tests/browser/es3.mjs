// Checks the browser library: it uses only ECMAScript 3, avoids the known traps of the oldest engines, and does not
// contain long functions.
//   node es3.mjs [file…]      by default static/client/*.js and the minified library
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parse, tokenizer } from 'acorn';
import { full } from 'acorn-walk';
import { LAZY, PARTS, joined, read, root } from './parts.mjs';

// Methods that came with ECMAScript 5 or later. `indexOf` is not in this list, because strings always had it.
const LATER = new Set(['forEach', 'map', 'filter', 'reduce', 'reduceRight', 'some', 'every', 'find', 'includes',
  'trim', 'bind', 'keys', 'values', 'entries', 'assign', 'create', 'isArray', 'now', 'defineProperty',
  'freeze', 'startsWith', 'endsWith', 'repeat', 'padStart', 'toISOString']);
const LONGEST = 80;

const lineOf = (source, at) => source.slice(0, at).split('\n').length;
const file = path => ({ source: readFileSync(path, 'utf8'), place: at => `${relative(root, path)}:${lineOf(readFileSync(path, 'utf8'), at)}` });
const minified = join(root, 'static/client.min.js');

// The parts are one script: the first opens a function, and the last closes it.
const library = {
  source: joined(PARTS),
  place: at => {
    for (const name of PARTS) {
      const text = read(name);
      if (at <= text.length) return `static/client/${name}.js:${lineOf(text, at)}`;
      at -= text.length;
    }
    return 'static/client';
  }
};
const lazy = name => ({ ...file(join(root, `static/client/${name}.js`)), isLazy: true });
const scripts = process.argv.length > 2
  ? process.argv.slice(2).map(file)
  : [library, ...LAZY.map(lazy), file(minified), ...LAZY.map(name => file(join(root, `static/lazy/${name}.js`)))];

let faults = 0;
const report = (place, text) => {
  console.error(`${place}: ${text}`);
  faults += 1;
};

for (const name of readdirSync(join(root, 'static/client'))) {
  if (![...PARTS, ...LAZY].includes(name.replace(/\.js$/, ''))) report(`static/client/${name}`, 'is in no list of parts.mjs');
}

for (const script of scripts) {
  const { source } = script;
  const fault = (at, text) => report(script.place(at), text);
  let tree;
  const options = { ecmaVersion: 3, allowReserved: 'never', sourceType: 'script', locations: true };
  try {
    tree = parse(source, options);
  } catch (error) {
    fault(error.pos ?? 0, error.message);
    continue;
  }
  const lines = node => node.loc.end.line - node.loc.start.line + 1;
  // A single file, or all joined files, form a function of their own.
  const { declarations, expression } = tree.body[0];
  const wrapper = declarations ? declarations[0].init.callee : expression.right;
  full(tree, node => {
    if (node.type === 'FunctionExpression' && node.id) {
      fault(node.start, `the name of the function expression '${node.id.name}' leaks into its scope in JScript`);
    }
    if (/^Function/.test(node.type) && node !== wrapper && lines(node) > LONGEST) {
      fault(node.start, `a function of ${lines(node)} lines`);
    }
    if (node.type === 'MemberExpression' && !node.computed) {
      const { name } = node.property;
      // The library checks that the clock of a page exists before it reads the clock.
      const isClock = name === 'now' && node.object.name !== 'Date';
      if (LATER.has(name) && !isClock) fault(node.property.start, `'${name}' is not in ECMAScript 3`);
      if (script.isLazy && name[0] === '_') fault(node.property.start, `'${name}' has another name in the minified core`);
    }
  });
  // A comma before a closing bracket makes an array one longer in JScript. The parser accepts that.
  let last = null;
  for (const token of tokenizer(source, options)) {
    if (last?.type.label === ',' && (token.type.label === ']' || token.type.label === '}')) {
      fault(last.start, 'a trailing comma');
    }
    last = token;
  }
  if (/[^\x00-\x7f]/.test(source)) {
    fault(source.search(/[^\x00-\x7f]/), 'not ASCII: a page may be read in any encoding');
  }
}
if (faults) {
  console.error(`${faults} faults`);
  process.exit(1);
}
console.log(`ES3: ${PARTS.length + LAZY.length} files, no fault`);
