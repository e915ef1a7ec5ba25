// Tests tests/structure.mjs on a made-up crate, in which a person can count every number by hand.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
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

test('imports, circles and lengths of a small crate', () => {
  const src = mkdtempSync(join(tmpdir(), 'structure-'));
  try {
    for (const [name, text] of Object.entries(FILES)) {
      mkdirSync(dirname(join(src, name)), { recursive: true });
      writeFileSync(join(src, name), text);
    }
    const program = join(dirname(fileURLToPath(import.meta.url)), 'structure.mjs');
    const found = JSON.parse(execFileSync('node', [program, '--src', src, '--json'], { encoding: 'utf8' }));
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
    assert.deepEqual(found.circlesWithoutHeads, []);
    assert.deepEqual(found.folderGraph.circles, [['a', 'c']]);
    assert.equal(found.files, 6);
    // lib 4, a/mod 6 - 2, a/b 15 - 5, a/x 1, c 5, d 1
    assert.equal(found.lines, 25);
    // without lib's comment, a/b's comment and two blank lines, c's comment
    assert.equal(found.code, 20);
    assert.deepEqual(found.tests, { files: 2, lines: 10 });
    assert.deepEqual(found.length, { median: 4, p90: 10, max: 10 });
    const functions = found.longestFunctions.map(({ name, lines }) => [name, lines]);
    assert.deepEqual(functions, [['run', 5], ['f', 3], ['go', 1], ['deep', 1], ['some', 1]]);
  } finally {
    rmSync(src, { recursive: true });
  }
});
