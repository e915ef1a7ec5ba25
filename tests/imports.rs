//! Imports point one way: `main → serve → transport → hub → log → {cursor, message}`; `wire` and `demo`
//! import nothing of ours, and only `main`, `lib` and `server` see `config`.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may use.
const ROOMS: [(&str, &[&str]); 15] = [
    ("wire", &[]),
    ("http_client", &[]),
    ("demo", &[]),
    ("cursor", &[]),
    ("message", &["cursor", "wire"]),
    ("log", &["cursor", "message"]),
    ("hub", &["log", "cursor", "message"]),
    ("transport", &["hub", "cursor", "message", "wire"]),
    ("serve", &["transport", "hub", "log", "cursor", "message", "wire", "demo", "http_client"]),
    ("cli", &["wire", "http_client"]),
    ("config", &["cli", "log", "message"]),
    ("systemd", &[]),
    ("signals", &[]),
    ("logging", &["config"]),
    ("server", &["config", "serve", "systemd", "transport", "hub", "log", "message", "demo"]),
];

fn files(at: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(at).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The rooms that a source file names with `crate::`.
fn imports(source: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words = code.flat_map(|line| line.split("crate::").skip(1));
    words.map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn imports_point_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for file in files(&src).iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs")) {
        let inside = file.strip_prefix(&src).expect("inside").with_extension("");
        let room = inside.iter().next().expect("a name").to_string_lossy().into_owned();
        if room == "main" || room == "lib" {
            continue;
        }
        let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} is no room"));
        let source = fs::read_to_string(file).expect("readable");
        for import in imports(&source) {
            // `pub(in crate::log)` names the file's own room.
            assert!(import == room || allowed.contains(&import.as_str()), "{} uses {import}", inside.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} imports were found: does the test still read them?");
}
