// Holds the browser library to ECMAScript 3 and to the known traps of its oldest engines.
//   node es3.mjs [file…]      by default static/client/*.js and what was made of them
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join, relative } from 'node:path';
import { parse, tokenizer } from 'acorn';
import { full } from 'acorn-walk';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = join(root, 'static/client');
const files = process.argv.length > 2
  ? process.argv.slice(2)
  : readdirSync(folder).filter(name => name.endsWith('.js')).map(name => join(folder, name))
    .concat(join(root, 'static/client.min.js'));

// Methods that came with ECMAScript 5 or later. `indexOf` is not among them: strings always had it.
const LATER = new Set(['forEach', 'map', 'filter', 'reduce', 'reduceRight', 'some', 'every', 'find', 'includes',
  'trim', 'bind', 'keys', 'values', 'entries', 'assign', 'create', 'isArray', 'now', 'defineProperty',
  'freeze', 'startsWith', 'endsWith', 'repeat', 'padStart', 'toISOString']);

let faults = 0;
for (const file of files) {
  const source = readFileSync(file, 'utf8');
  const fault = (node, text) => {
    const line = source.slice(0, node.start).split('\n').length;
    console.error(`${relative(root, file)}:${line}: ${text}`);
    faults += 1;
  };
  let tree;
  const options = { ecmaVersion: 3, allowReserved: 'never', sourceType: 'script' };
  try {
    tree = parse(source, options);
  } catch (error) {
    fault({ start: error.pos ?? 0 }, error.message);
    continue;
  }
  full(tree, node => {
    if (node.type === 'FunctionExpression' && node.id) {
      fault(node, `the name of the function expression '${node.id.name}' leaks into its scope in JScript`);
    }
    if (node.type === 'MemberExpression' && !node.computed && LATER.has(node.property.name)) {
      fault(node.property, `'${node.property.name}' is not in ECMAScript 3`);
    }
  });
  // A comma before a closing bracket makes an array one longer in JScript. The parser lets that pass.
  let last = null;
  for (const token of tokenizer(source, options)) {
    if (last?.type.label === ',' && (token.type.label === ']' || token.type.label === '}')) {
      fault(last, 'a trailing comma');
    }
    last = token;
  }
  if (/[^\x00-\x7f]/.test(source)) {
    fault({ start: source.search(/[^\x00-\x7f]/) }, 'not ASCII: a page may be read in any encoding');
  }
}
if (faults) {
  console.error(`${faults} faults against ECMAScript 3`);
  process.exit(1);
}
console.log(`ES3: ${files.length} files, no fault`);
