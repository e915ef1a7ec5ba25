#!/usr/bin/env node
// Prints the structure of the Rust source: which file imports which, on which floor it stands, circles, and lengths.
//
//   node tests/structure.mjs [--src DIR] [--json] [--check]
//
// --src    the folder of the crate's source; src without it
// --json   everything as one JSON object
// --check  exits with 1 if there is a circle, a function of more than 80 lines, or a file of more than 450
//
// It needs Node and no package. It counts the following.
//
// The script ignores tests everywhere. A test is an item below `#[cfg(test)]` (or `cfg(all(test, …))`), a file named
// `tests.rs`, a file that begins with `#![cfg(test)]`, and a file whose `mod` line stands below `#[cfg(test)]`, with
// all files below it. The `mod` line may name the file by `#[path = "…"]`.
//
// Lines: `lines` are all lines of a file outside tests, including blank lines and comments. `code` does not count blank
// lines and lines that contain only a comment. The length of a file is its `lines`.
//
// A function's length is from the line of its `fn` to the line of its closing brace, both counted. Its attributes and
// documentation are not. A function within a function counts in both. A function without a body is not counted.
//
// An import is a pair of files: the first one names something that the second one defines. Names are found in `use`
// items (groups, `self`, globs and `as` included) and in paths within the code that begin with `crate`, `super`,
// `self`, with a module below the file, or with a module that a `use` brought in. The script follows a re-export to the
// file that defines the name. So `pub use child::Name` in `mod.rs` is not an import of `child.rs`, unless `mod.rs` uses
// `Name` itself. `mod name;` is not an import, either. The binary's `longtail::` is the library's `crate::`. The script
// does not see methods and trait implementations, because code can reach them without a name of their file.
//
// A circle of files is a set of files each of which reaches each other one by imports. The head of a folder (`mod.rs`,
// or `name.rs` beside the folder `name`) is a file like any other. A floor is one more than the highest floor among the
// imports; all members of a circle stand on the same floor. The ground floor, 0, imports nothing.
//
// Circles of folders are looked for within each folder separately. There, each file is one part, and each folder in it
// is one part with all that is below it; `name.rs` belongs to the folder `name` beside it. So `serve` as a whole may not
// be in a circle with `hub`, and `serve/session` may not be in one with `serve/routes`. But a folder and a folder within
// it are not compared: `hub/memory` is a part of the hub. It may use files of `hub` that stand below it, and files of
// `hub` that stand above it may use it. A circle among these is a circle of parts of `hub`.
'use strict';

import { readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const MOST_LINES_OF_A_FUNCTION = 80;
const MOST_LINES_OF_A_FILE = 450;

// ---- text ----

// The same text with spaces in place of comments and of the contents of strings and characters. Positions stay.
function blanked(text) {
  const out = [...text.split('')];
  const blank = (from, to) => {
    for (let i = from; i < to; i++) if (out[i] !== '\n') out[i] = ' ';
  };
  let i = 0;
  while (i < text.length) {
    const c = text[i];
    if (c === '/' && text[i + 1] === '/') {
      const end = text.indexOf('\n', i);
      const to = end === -1 ? text.length : end;
      blank(i, to);
      i = to;
    } else if (c === '/' && text[i + 1] === '*') {
      let depth = 1;
      let j = i + 2;
      while (j < text.length && depth > 0) {
        if (text.startsWith('/*', j)) { depth++; j += 2; } else if (text.startsWith('*/', j)) { depth--; j += 2; } else j++;
      }
      blank(i, j);
      i = j;
    } else if (/[A-Za-z_0-9]/.test(c)) {
      const word = /^[A-Za-z_0-9]+/.exec(text.slice(i, i + 200))[0];
      const next = i + word.length;
      const raw = /^(?:b|c)?r$/.test(word) ? /^#*"/.exec(text.slice(next, next + 20)) : null;
      if (raw) {
        const close = `"${'#'.repeat(raw[0].length - 1)}`;
        const from = next + raw[0].length;
        const end = text.indexOf(close, from);
        const to = end === -1 ? text.length : end;
        blank(from, to);
        i = to + close.length;
      } else {
        i = next;
      }
    } else if (c === '"') {
      let j = i + 1;
      while (j < text.length && text[j] !== '"') j += text[j] === '\\' ? 2 : 1;
      blank(i + 1, j);
      i = j + 1;
    } else if (c === "'") {
      const char = /^'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'])'/su.exec(text.slice(i, i + 16));
      if (char) {
        blank(i + 1, i + char[0].length - 1);
        i += char[0].length;
      } else {
        i++; // a lifetime
      }
    } else {
      i++;
    }
  }
  return out.join('');
}

const OPEN = { '(': ')', '[': ']', '{': '}' };
const CLOSE = new Set([')', ']', '}']);

// The position after the bracket that closes the bracket at `at`.
function closing(code, at) {
  let depth = 0;
  for (let i = at; i < code.length; i++) {
    if (code[i] in OPEN) depth++;
    else if (CLOSE.has(code[i]) && --depth === 0) return i + 1;
  }
  return code.length;
}

// The position after the item, field, statement or arm that begins at `at`.
function endOfItem(code, at) {
  for (let i = at; i < code.length; i++) {
    const c = code[i];
    if (c === ';' || c === ',') return i + 1;
    if (c === '{') return closing(code, i);
    if (c in OPEN) i = closing(code, i) - 1;
    else if (CLOSE.has(c)) return i; // the last field of a list
  }
  return code.length;
}

const TEST_ATTRIBUTE = /#\[cfg\((?:test|all\((?:[^()]*,\s*)?test\s*[,)][^\]]*)\)?\]/g;

// The spans of code that are compiled for tests only, and the modules whose `mod` line is within them: their names, or
// their files if `#[path = "…"]` names these. (The blanked code does not have the text of an attribute.)
function testSpans(code, text) {
  const spans = [];
  const modules = [];
  const paths = [];
  for (const found of code.matchAll(TEST_ATTRIBUTE)) {
    let at = found.index + found[0].length;
    for (;;) {
      const attribute = /^\s*#\[/.exec(code.slice(at));
      if (!attribute) break;
      at = closing(code, at + attribute[0].length - 1);
    }
    const end = endOfItem(code, at);
    const module = /^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;/.exec(code.slice(at, end));
    const path = module && /#\[\s*path\s*=\s*"([^"]*)"\s*\]/.exec(text.slice(found.index, end));
    if (path) paths.push(path[1]); else if (module) modules.push(module[1]);
    if (!spans.some(([from, to]) => from <= found.index && end <= to)) spans.push([found.index, end]);
  }
  return { spans, modules, paths };
}

function lineStarts(text) {
  const starts = [0];
  for (let i = 0; i < text.length; i++) if (text[i] === '\n') starts.push(i + 1);
  return starts;
}

function lineOf(starts, at) {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= at) low = middle; else high = middle - 1;
  }
  return low + 1;
}

// ---- files and modules ----

function rustFiles(dir) {
  return readdirSync(dir, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1)).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return rustFiles(path);
    return entry.name.endsWith('.rs') ? [path] : [];
  });
}

// The module of a file, as `log::redis`; the library's root is ''. The binary's module is `main`, which no file can
// import.
function moduleOf(name) {
  const parts = name.replace(/\.rs$/, '').split('/');
  if (parts.at(-1) === 'mod' || (parts.length === 1 && parts[0] === 'lib')) parts.pop();
  return parts.join('::');
}

function read(src) {
  const files = rustFiles(src).map((path) => {
    const name = relative(src, path).replaceAll('\\', '/');
    const text = readFileSync(path, 'utf8');
    const code = blanked(text);
    const { spans, modules, paths } = testSpans(code, text);
    const isTest = basename(name) === 'tests.rs' || /^\s*#!\[cfg\(test\)\]/.test(code);
    return { name, module: moduleOf(name), text, code, spans, testModules: modules, testPaths: paths, isTest };
  });
  const byModule = new Map(files.map((file) => [file.module, file]));
  const isBelow = (module, root) => module === root || module.startsWith(`${root}::`);
  for (const file of files) {
    // The path of a `mod` line that is not in braces is relative to the file that contains the line.
    const ofPaths = file.testPaths.map((path) => moduleOf(join(dirname(file.name), path).replaceAll('\\', '/')));
    const ofNames = file.testModules.map((child) => (file.module === '' ? child : `${file.module}::${child}`));
    for (const root of [...ofNames, ...ofPaths]) {
      for (const other of files) if (isBelow(other.module, root)) other.isTest = true;
    }
    if (file.isTest) for (const other of files) if (file.module !== '' && isBelow(other.module, file.module)) other.isTest = true;
  }
  const kept = files.filter((file) => !file.isTest);
  for (const file of kept) {
    const code = file.code.split('');
    for (const [from, to] of file.spans) for (let i = from; i < to; i++) if (code[i] !== '\n') code[i] = ' ';
    file.code = code.join('');
    file.starts = lineStarts(file.text);
  }
  return { files: kept, tests: files.filter((file) => file.isTest), byModule };
}

// ---- lengths ----

function measure(file) {
  const lines = file.text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const isTest = new Array(lines.length).fill(false);
  for (const [from, to] of file.spans) {
    for (let n = lineOf(file.starts, from); n <= lineOf(file.starts, Math.max(from, to - 1)); n++) isTest[n - 1] = true;
  }
  const codeLines = file.code.split('\n');
  file.lines = isTest.filter((test) => !test).length;
  file.codeLines = lines.filter((_, n) => !isTest[n] && codeLines[n].trim() !== '').length;
  file.testLines = lines.length - file.lines;
  file.functions = [];
  for (const found of file.code.matchAll(/\bfn\s+([A-Za-z_]\w*)/g)) {
    let at = found.index + found[0].length;
    while (at < file.code.length && file.code[at] !== '{' && file.code[at] !== ';') {
      at = file.code[at] === '(' || file.code[at] === '[' ? closing(file.code, at) : at + 1;
    }
    if (file.code[at] !== '{') continue;
    const from = lineOf(file.starts, found.index);
    const to = lineOf(file.starts, closing(file.code, at) - 1);
    file.functions.push({ name: found[1], file: file.name, line: from, lines: to - from + 1 });
  }
}

// ---- names ----

const TOKEN = /\$?[A-Za-z_]\w*|::|[{}*,;]/g;

// The paths of one `use` tree, each as { path, alias, isGlob }.
function useTree(tokens, prefix, at) {
  const found = [];
  let path = [...prefix];
  let alias = null;
  let isGlob = false;
  let hasGroup = false;
  const end = () => {
    if (!hasGroup && (path.length > prefix.length || isGlob)) {
      if (path.at(-1) === 'self' && path.length > 1) path = path.slice(0, -1);
      found.push({ path, alias: alias ?? path.at(-1), isGlob });
    }
  };
  for (;;) {
    const token = tokens[at];
    if (token === undefined || token === ';' || token === '}') { end(); return { found, at }; }
    if (token === ',') {
      end();
      path = [...prefix];
      alias = null;
      isGlob = false;
      hasGroup = false;
    } else if (token === '{') {
      const group = useTree(tokens, path, at + 1);
      found.push(...group.found);
      at = group.at;
      hasGroup = true;
    } else if (token === '*') {
      isGlob = true;
    } else if (token === 'as') {
      alias = tokens[++at];
    } else if (token !== '::') {
      path.push(token);
    }
    at++;
  }
}

// Modules that stand in a file's own braces, `mod name { … }`, as spans.
function inlineModules(code) {
  const found = [];
  for (const match of code.matchAll(/\bmod\s+(\w+)\s*\{/g)) {
    found.push({ name: match[1], from: match.index, to: closing(code, match.index + match[0].length - 1) });
  }
  return found;
}

function names(file) {
  file.inline = inlineModules(file.code);
  file.uses = [];
  const rest = file.code.split('');
  for (const match of file.code.matchAll(/(?<![\w$])(pub(?:\s*\([^)]*\))?\s+)?use\s+(?=[\w:{$])/g)) {
    const end = file.code.indexOf(';', match.index) + 1;
    const tokens = file.code.slice(match.index + match[0].length, end).match(TOKEN) ?? [];
    for (const use of useTree(tokens, [], 0).found) file.uses.push({ ...use, at: match.index, isPublic: Boolean(match[1]) });
    for (let i = match.index; i < end; i++) if (rest[i] !== '\n') rest[i] = ' ';
  }
  // Visibility, `pub(in crate::log)`, is not an import.
  file.body = rest.join('').replace(/\bpub\s*\([^)]*\)/g, (found) => ' '.repeat(found.length));
  file.words = new Set(file.body.match(/[A-Za-z_]\w*/g) ?? []);
  file.children = new Set([...file.code.matchAll(/\bmod\s+(\w+)\s*;/g)].map((match) => match[1]));
  file.defines = new Set(
    [...file.body.matchAll(/\b(?:fn|struct|enum|union|trait|type|const|static|macro_rules!)\s+(?:mut\s+)?([A-Za-z_]\w*)/g)]
      .map((match) => match[1]));
}

// The module that contains a position of a file. Modules in the file's own braces count too.
function scopeAt(file, at) {
  const inner = file.inline.filter((module) => module.from < at && at < module.to).map((module) => module.name);
  return [...(file.module === '' ? [] : file.module.split('::')), ...inner];
}

class Names {
  constructor(byModule) {
    this.byModule = byModule;
  }

  // The file of a module; for a module in a file's own braces, that file.
  fileOf(module) {
    for (let n = module.length; n >= 0; n--) {
      const file = this.byModule.get(module.slice(0, n).join('::'));
      if (file) return { file, isExact: n === module.length };
    }
    return null;
  }

  // The beginning of a path: an absolute module path and the rest of the path, or null if the path belongs to another
  // crate.
  absolute(file, path, at) {
    let scope = scopeAt(file, at);
    let [first, ...rest] = path;
    if (first === 'crate' || first === '$crate') return { module: [], rest };
    if (first === 'longtail' && file.name === 'main.rs') return { module: [], rest };
    if (first === 'self') return { module: scope, rest };
    if (first !== 'super') return null;
    while (first === 'super') {
      scope = scope.slice(0, -1);
      [first, ...rest] = rest;
    }
    return { module: scope, rest: first === undefined ? [] : [first, ...rest] };
  }

  // The file that defines the item that a path names, and whether the path is a module.
  follow(module, rest, seen = new Set()) {
    const key = `${module.join('::')}|${rest.join('::')}`;
    if (seen.has(key)) return null;
    seen.add(key);
    const here = this.fileOf(module);
    if (!here || here.file.isTest) return null;
    if (rest.length === 0) return { file: here.file, module, isModule: here.isExact };
    if (!here.isExact) return { file: here.file, isModule: false };
    const [name, ...further] = rest;
    const { file } = here;
    if (file.children.has(name)) return this.follow([...module, name], further, seen);
    if (file.inline.some((inner) => inner.name === name)) return { file, isModule: false };
    if (!file.defines.has(name)) {
      for (const use of file.uses) {
        if (!use.isGlob && use.alias === name) {
          const found = this.resolve(file, [...use.path, ...further], use.at, seen);
          if (found) return found;
        }
      }
      for (const use of file.uses) {
        if (!use.isGlob) continue;
        const from = this.resolve(file, use.path, use.at, new Set(seen));
        if (from?.isModule && (from.file.defines.has(name) || from.file.children.has(name))) {
          return this.follow(from.module, rest, seen);
        }
      }
    }
    return { file, isModule: false };
  }

  // The same for a path that is written at a position of a file.
  resolve(file, path, at, seen = new Set()) {
    const absolute = this.absolute(file, path, at);
    if (absolute) return this.follow(absolute.module, absolute.rest, seen);
    if (file.children.has(path[0])) return this.follow(scopeAt(file, 0).concat(path[0]), path.slice(1), seen);
    for (const use of file.uses) {
      if (use.isGlob || use.alias !== path[0] || (use.path.length === 1 && use.path[0] === path[0])) continue;
      const key = `${file.name}|${use.at}|${use.path.join('::')}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const found = this.resolve(file, [...use.path, ...path.slice(1)], use.at, seen);
      if (found) return found;
    }
    return null;
  }
}

function imports(file, nameTable) {
  const to = new Set();
  const add = (found) => {
    if (found && found.file !== file && !found.file.isTest) to.add(found.file.name);
  };
  // Paths in the code.
  const deeper = new Set();
  for (const match of file.body.matchAll(/(?<![\w:.])(\$?[A-Za-z_]\w*)((?:\s*::\s*[A-Za-z_]\w*)+)/g)) {
    const path = [match[1], ...match[2].split('::').map((part) => part.trim()).filter(Boolean)];
    const found = nameTable.resolve(file, path, match.index);
    if (found) deeper.add(match[1]);
    add(found);
  }
  for (const use of file.uses) {
    const found = nameTable.resolve(file, use.path, use.at);
    if (!found) continue;
    const isNamed = file.words.has(use.alias);
    if (use.isPublic && (use.isGlob || !isNamed)) continue;
    if (found.isModule && !use.isGlob && deeper.has(use.alias)) continue; // counted where its names lead
    add(found);
  }
  return to;
}

// ---- graphs ----

// Strongly connected components (Tarjan), the imported ones first.
function components(graph) {
  const index = new Map();
  const low = new Map();
  const stack = [];
  const onStack = new Set();
  const out = [];
  const visit = (node) => {
    index.set(node, index.size);
    low.set(node, index.get(node));
    stack.push(node);
    onStack.add(node);
    for (const next of graph.get(node)) {
      if (!index.has(next)) {
        visit(next);
        low.set(node, Math.min(low.get(node), low.get(next)));
      } else if (onStack.has(next)) {
        low.set(node, Math.min(low.get(node), index.get(next)));
      }
    }
    if (low.get(node) === index.get(node)) {
      const members = [];
      let member;
      do {
        member = stack.pop();
        onStack.delete(member);
        members.push(member);
      } while (member !== node);
      out.push(members.sort());
    }
  };
  for (const node of graph.keys()) if (!index.has(node)) visit(node);
  return out;
}

function layout(graph) {
  const floorOf = new Map();
  const circles = [];
  for (const members of components(graph)) {
    let floor = 0;
    for (const member of members) {
      for (const next of graph.get(member)) if (!members.includes(next)) floor = Math.max(floor, floorOf.get(next) + 1);
    }
    for (const member of members) floorOf.set(member, floor);
    if (members.length > 1) circles.push(members);
  }
  const floors = [];
  for (const [node, floor] of floorOf) (floors[floor] ??= []).push(node);
  for (const floor of floors) floor.sort();
  circles.sort((a, b) => b.length - a.length);
  const arrows = [...graph.values()].reduce((sum, next) => sum + next.size, 0);
  return { floors, circles, arrows };
}

// The names of the parts that contain a file, from the source folder down, with the file last.
function partsOf(name, files) {
  const own = name.replace(/\.rs$/, '');
  const hasFolder = files.some((file) => file.name.startsWith(`${own}/`));
  return hasFolder ? [...own.split('/'), basename(name)] : name.split('/');
}

// The imports between the parts of each folder: for each folder, its parts, the parts that these import, and the imports
// of files behind each pair.
function folderGraphs(graph, files) {
  const places = new Map(files.map((file) => [file.name, partsOf(file.name, files)]));
  const folders = new Map();
  for (const parts of places.values()) {
    for (let n = 0; n < parts.length; n++) {
      const folder = parts.slice(0, n).join('/');
      if (!folders.has(folder)) folders.set(folder, { graph: new Map(), between: new Map() });
      folders.get(folder).graph.set(parts[n], new Set());
    }
  }
  for (const [from, next] of graph) {
    for (const to of next) {
      const [a, b] = [places.get(from), places.get(to)];
      const n = a.findIndex((part, index) => part !== b[index]);
      const { graph: parts, between } = folders.get(a.slice(0, n).join('/'));
      parts.get(a[n]).add(b[n]);
      const pair = `${a[n]} → ${b[n]}`;
      between.set(pair, [...(between.get(pair) ?? []), `${from} → ${to}`]);
    }
  }
  return folders;
}

function layoutOfFolder([folder, { graph, between }]) {
  const { floors, circles } = layout(graph);
  const inCircles = circles.flatMap((circle) =>
    [...between].filter(([pair]) => pair.split(' → ').every((part) => circle.includes(part))));
  return { folder, floors, circles, importsInCircles: Object.fromEntries(inCircles) };
}

function quantile(sorted, q) {
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)];
}

// ---- all of it ----

function structure(src) {
  const { files, tests, byModule } = read(src);
  for (const file of byModule.values()) names(file);
  for (const file of files) measure(file);
  const nameTable = new Names(byModule);
  const graph = new Map(files.map((file) => [file.name, imports(file, nameTable)]));
  const folders = [...folderGraphs(graph, files)].sort(([a], [b]) => (a < b ? -1 : 1)).map(layoutOfFolder);
  const lengths = files.map((file) => file.lines).sort((a, b) => a - b);
  const functions = files.flatMap((file) => file.functions).sort((a, b) => b.lines - a.lines);
  const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);
  return {
    src: relative(process.cwd(), src) || '.',
    files: files.length,
    lines: sum(files, (file) => file.lines),
    code: sum(files, (file) => file.codeLines),
    tests: { files: tests.length, lines: sum(tests, (file) => file.text.split('\n').length - 1) + sum(files, (file) => file.testLines) },
    length: { median: quantile(lengths, 0.5), p90: quantile(lengths, 0.9), max: lengths.at(-1) },
    longFiles: files.filter((file) => file.lines > MOST_LINES_OF_A_FILE).map(({ name, lines }) => ({ name, lines }))
      .sort((a, b) => b.lines - a.lines),
    functions: functions.length,
    longestFunctions: functions.slice(0, 10),
    longFunctions: functions.filter((one) => one.lines > MOST_LINES_OF_A_FUNCTION),
    fileGraph: layout(graph),
    folders,
    imports: Object.fromEntries([...graph].map(([from, next]) => [from, [...next].sort()])),
  };
}

function wrap(words, indent) {
  const lines = [''];
  for (const word of words) {
    if (lines.at(-1) !== '' && lines.at(-1).length + word.length + 1 > 110) lines.push('');
    lines[lines.length - 1] += (lines.at(-1) === '' ? '' : ' ') + word;
  }
  return lines.join(`\n${' '.repeat(indent)}`);
}

function print(found) {
  const say = (text = '') => console.log(text);
  const graph = (title, { floors, circles }) => {
    say(`\n${title}`);
    for (let n = floors.length - 1; n >= 0; n--) say(`  ${String(n).padStart(2)}  ${wrap(floors[n], 6)}`);
    for (const circle of circles) say(`  circle of ${circle.length}: ${wrap(circle, 6)}`);
  };
  say(`${found.src}, without tests: ${found.files} files, ${found.lines} lines (${found.code} of code)`);
  say(`tests within it: ${found.tests.lines} lines, ${found.tests.files} files of their own`);
  say(`length of a file: median ${found.length.median}, p90 ${found.length.p90}, longest ${found.length.max}`);
  say(`files over ${MOST_LINES_OF_A_FILE} lines: ${found.longFiles.length}`);
  for (const { name, lines } of found.longFiles) say(`  ${String(lines).padStart(4)}  ${name}`);
  const list = (functions) => {
    for (const { name, file, line, lines } of functions) say(`  ${String(lines).padStart(4)}  ${name}  ${file}:${line}`);
  };
  say(`\nfunctions: ${found.functions}, over ${MOST_LINES_OF_A_FUNCTION} lines: ${found.longFunctions.length}; the ten longest:`);
  list(found.longestFunctions);
  if (found.longFunctions.length > 10) {
    say(`all over ${MOST_LINES_OF_A_FUNCTION} lines:`);
    list(found.longFunctions);
  }
  const { floors, circles, arrows } = found.fileGraph;
  graph(`files: ${floors.length} floors, ${arrows} imports, ${circles.length} circles`, found.fileGraph);
  for (const one of found.folders) {
    graph(`in ${join(found.src, one.folder)}: ${one.floors.length} floors, ${one.circles.length} circles`, one);
    for (const [pair, between] of Object.entries(one.importsInCircles)) say(`  ${pair}: ${wrap(between.map((each, n) => (n + 1 < between.length ? `${each},` : each)), 6)}`);
  }
}

const args = process.argv.slice(2);
let src = join(dirname(fileURLToPath(import.meta.url)), '..', 'src');
let json = false;
let check = false;
while (args.length > 0) {
  const arg = args.shift();
  if (arg === '--src' && args.length > 0) src = args.shift();
  else if (arg === '--json') json = true;
  else if (arg === '--check') check = true;
  else {
    console.error('usage: node tests/structure.mjs [--src DIR] [--json] [--check]');
    process.exit(64);
  }
}
const found = structure(src);
if (json) console.log(JSON.stringify(found, null, 1)); else print(found);
if (check) {
  const wrong = [
    [found.fileGraph.circles.length, 'circles between files'],
    [found.folders.reduce((sum, one) => sum + one.circles.length, 0), 'circles between the parts of a folder'],
    [found.longFunctions.length, `functions over ${MOST_LINES_OF_A_FUNCTION} lines`],
    [found.longFiles.length, `files over ${MOST_LINES_OF_A_FILE} lines`],
  ].filter(([count]) => count > 0);
  for (const [count, what] of wrong) console.error(`${count} ${what}`);
  if (wrong.length > 0) process.exitCode = 1;
}
