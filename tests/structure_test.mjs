// Tests tests/structure.mjs on a made-up crate, in which a person can count every number by hand.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'node:test';

const FILES = {
  'lib.rs': `//! crate::nothing
pub mod a;
pub mod c;
pub use c::Thing as Renamed;
`,
  'a/mod.rs': `mod b;
mod x;
#[cfg(test)]
mod only;
pub use x::X;
pub fn go() { b::run(); }
`,
  'a/b.rs': `use super::{X, x::{self, Y as Z}};
use crate::{Renamed, c::*};

/// crate::a::nothing
pub(in crate::a) fn run() {
    let s = "crate::d";
    let r = r#"fn no() { " crate::d "#;
    x::deep::<'static>('{', '\\'');
}

#[cfg(test)]
mod tests {
    use crate::d::Other;
    fn long() {}
}
`,
  'a/x.rs': 'pub struct X; pub struct Y; pub fn deep() {}\n',
  'a/only.rs': 'use crate::d::Q;\n',
  'c.rs': `pub struct Thing;
/* fn no() { /* crate::d */ } */
fn f() {
    crate::a::go()
}
`,
  'd.rs': 'trait T { fn none(&self); fn some(&self, x: [u8; 3]) -> [u8; 3] { x } }\n',
  'e.rs': `#![cfg(test)]
use crate::c::Thing;
`,
};

// What the script prints about a crate of these files, and its exit status.
function structure(files) {
  const src = mkdtempSync(join(tmpdir(), 'structure-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(src, name)), { recursive: true });
      writeFileSync(join(src, name), text);
    }
    const program = join(dirname(fileURLToPath(import.meta.url)), 'structure.mjs');
    const { stdout, stderr, status } = spawnSync('node', [program, '--src', src, '--json', '--check'], { encoding: 'utf8' });
    return { found: JSON.parse(stdout), stderr, status };
  } finally {
    rmSync(src, { recursive: true });
  }
}

function circlesOfFolders({ folders }) {
  return Object.fromEntries(folders.filter((one) => one.circles.length > 0).map((one) => [one.folder, one.circles]));
}

test('imports, circles and lengths of a small crate', () => {
  const { found, stderr, status } = structure(FILES);
  assert.deepEqual(found.imports, {
    'a/b.rs': ['a/x.rs', 'c.rs'],
    'a/mod.rs': ['a/b.rs'],
    'a/x.rs': [],
    'c.rs': ['a/mod.rs'],
    'd.rs': [],
    'lib.rs': [],
  });
  assert.deepEqual(found.fileGraph.circles, [['a/b.rs', 'a/mod.rs', 'c.rs']]);
  assert.deepEqual(found.fileGraph.floors, [['a/x.rs', 'd.rs', 'lib.rs'], ['a/b.rs', 'a/mod.rs', 'c.rs']]);
  assert.deepEqual(circlesOfFolders(found), { '': [['a', 'c.rs']] });
  assert.deepEqual([status, stderr], [1, '1 circles between files\n1 circles between the parts of a folder\n']);
  assert.equal(found.files, 6);
  // lib 4, a/mod 6 - 2, a/b 15 - 5, a/x 1, c 5, d 1
  assert.equal(found.lines, 25);
  // without lib's comment, a/b's comment and two blank lines, c's comment
  assert.equal(found.code, 20);
  assert.deepEqual(found.tests, { files: 2, lines: 10 });
  assert.deepEqual(found.length, { median: 4, p90: 10, max: 10 });
  const functions = found.longestFunctions.map(({ name, lines }) => [name, lines]);
  assert.deepEqual(functions, [['run', 5], ['f', 3], ['go', 1], ['deep', 1], ['some', 1]]);
});

const NESTED = {
  'lib.rs': 'mod n;\n',
  'n/mod.rs': 'mod low;\nmod sub;\nmod top;\npub use top::all;\n',
  'n/low.rs': `pub struct Low;
#[cfg(test)]
#[path = "low_checks.rs"]
mod tests;
`,
  'n/low_checks.rs': 'use super::super::top;\n',
  'n/sub.rs': 'pub mod inner;\npub struct Sub(super::low::Low);\n',
  'n/sub/inner.rs': 'pub fn inner(_: super::Sub) {}\n',
  'n/top.rs': 'pub fn all(sub: super::sub::Sub) { super::sub::inner::inner(sub) }\n',
};

test('a folder within a folder is one of its parts', () => {
  const { found, stderr, status } = structure(NESTED);
  assert.deepEqual([status, stderr], [0, '']);
  assert.deepEqual(found.tests, { files: 1, lines: 4 });
  const floors = Object.fromEntries(found.folders.map((one) => [one.folder, one.floors]));
  assert.deepEqual(floors, {
    '': [['lib.rs', 'n']],
    n: [['low.rs', 'mod.rs'], ['sub'], ['top.rs']],
    'n/sub': [['sub.rs'], ['inner.rs']],
  });
});

test('two folders may form a circle although their files do not', () => {
  const { found, stderr, status } = structure({
    ...NESTED,
    'lib.rs': 'mod m;\nmod n;\n',
    'm/mod.rs': 'pub mod a;\npub mod b;\n',
    'm/a.rs': 'use crate::n::low::Low;\n',
    'm/b.rs': 'pub struct B;\n',
    'n/sub/inner.rs': 'use crate::m::b::B;\npub fn inner(_: super::Sub) {}\n',
  });
  assert.deepEqual(found.fileGraph.circles, []);
  assert.deepEqual(circlesOfFolders(found), { '': [['m', 'n']] });
  assert.deepEqual(found.folders[0].importsInCircles, {
    'm → n': ['m/a.rs → n/low.rs'],
    'n → m': ['n/sub/inner.rs → m/b.rs'],
  });
  assert.deepEqual([status, stderr], [1, '1 circles between the parts of a folder\n']);
});
