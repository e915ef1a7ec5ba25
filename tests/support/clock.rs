//! A wall clock that can be stepped, for a process that a test starts.

use super::redis::fresh_dir;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// The clock of one process, which is started with its `variables`.
pub struct Clock {
    dir: PathBuf,
    file: PathBuf,
    variables: [String; 2],
}

impl Clock {
    pub fn new() -> Clock {
        let dir = fresh_dir("clock");
        let (library, file) = (dir.join("clock.so"), dir.join("offset"));
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        assert!(compiler.status().expect("a C compiler (apt-get install gcc)").success(), "clock.c compiles");
        std::fs::write(&file, 0i64.to_ne_bytes()).expect("a file");
        let variables = [format!("LD_PRELOAD={}", library.display()), format!("CLOCK_OFFSET={}", file.display())];
        Clock { dir, file, variables }
    }

    /// Arguments that put a process under this clock.
    pub fn variables(&self) -> Vec<&str> {
        self.variables.iter().map(String::as_str).collect()
    }

    /// Sets the clock to a number of seconds from the true time.
    pub fn set(&self, seconds: i64) {
        // The new bytes overwrite the old ones in place, because the process has the file mapped.
        let mut mapped = std::fs::OpenOptions::new().write(true).open(&self.file).expect("the clock's file");
        mapped.write_all(&seconds.to_ne_bytes()).expect("the clock is set");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
