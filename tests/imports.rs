//! Imports point one way: between the main folders of `src`, between the folders of `src/serve`, and between files,
//! where circles are not allowed.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each main folder of `src`, and the ones that it may use. `wire` and `demo` use none, and only `program`,
/// `lib`, `server` and `logging` see `config`.
const ROOMS: [(&str, &[&str]); 17] = [
    ("wire", &[]),
    ("http_client", &[]),
    ("line_writer", &[]),
    ("demo", &[]),
    ("cursor", &[]),
    ("message", &["cursor", "wire"]),
    ("log", &["cursor", "message"]),
    ("hub", &["log", "cursor", "message"]),
    ("transport", &["hub", "cursor", "message", "wire"]),
    ("serve", &["transport", "hub", "log", "cursor", "message", "wire", "demo", "http_client", "line_writer"]),
    ("cli", &["wire", "http_client"]),
    ("config", &["cli", "log", "message"]),
    ("systemd", &[]),
    ("signals", &[]),
    ("logging", &["config", "line_writer"]),
    ("server", &["config", "serve", "systemd", "transport", "hub", "log", "message", "demo", "logging"]),
    ("program", &["server", "config", "cli", "logging", "systemd", "signals"]),
];

/// Each folder of `src/serve` (and its file `state`), and the folders that it may use.
const FOLDERS: [(&str, &[&str]); 18] = [
    ("net", &[]),
    ("application", &[]),
    ("limits", &[]),
    ("presence", &[]),
    ("client_sessions", &["presence"]),
    ("access", &["application", "limits", "presence"]),
    ("transitions", &[]),
    ("hook", &["application", "limits", "access", "transitions"]),
    ("metrics", &["net", "limits"]),
    ("http", &["net", "limits", "access"]),
    ("state", &["net", "limits", "presence", "client_sessions", "access", "hook", "metrics", "http"]),
    ("publishing", &["limits", "access", "metrics", "state"]),
    ("events", &["limits", "client_sessions", "access", "hook", "metrics", "state", "publishing", "transitions"]),
    (
        "session",
        &[
            "net",
            "limits",
            "presence",
            "client_sessions",
            "access",
            "hook",
            "metrics",
            "http",
            "state",
            "publishing",
            "events",
        ],
    ),
    (
        "routes",
        &[
            "limits",
            "presence",
            "client_sessions",
            "access",
            "hook",
            "metrics",
            "http",
            "state",
            "publishing",
            "events",
            "session",
        ],
    ),
    (
        "protocols",
        &[
            "net",
            "limits",
            "presence",
            "client_sessions",
            "access",
            "hook",
            "metrics",
            "http",
            "state",
            "publishing",
            "application",
            "transitions",
            "events",
            "session",
            "routes",
        ],
    ),
    ("router", &["access", "http", "state", "routes", "protocols"]),
    ("conn", &["net", "limits", "access", "metrics", "http", "state", "publishing", "session", "routes", "router"]),
];

/// A module: the names from `src` down.
type Module = Vec<String>;

/// The source files by their modules, without their comments and tests.
fn modules() -> BTreeMap<Module, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for file in files(&src).iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs")) {
        let inside = file.strip_prefix(&src).expect("inside").with_extension("");
        let mut module: Module = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        // Unit tests may use any module.
        let is_test = module.last().is_some_and(|name| name == "tests" || name.ends_with("_tests"));
        if is_test || matches!(module[0].as_str(), "main" | "lib") {
            continue;
        }
        let source = fs::read_to_string(file).expect("readable");
        let source = source.split("#[cfg(test)]\nmod ").next().expect("a part");
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        modules.insert(module, lines.collect::<Vec<_>>().join("\n"));
    }
    modules
}

fn files(at: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(at).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The paths that a module names with `crate::` or `super::`, from `src` down.
fn paths(module: &Module, source: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in source.match_indices(start) {
            let before = source[..at].chars().next_back().unwrap_or(' ');
            // This match is the rest of a longer path or name.
            if before.is_alphanumeric() || before == '_' || source[..at].ends_with("::") {
                continue;
            }
            let mut base = if start == "crate::" { Vec::new() } else { module.clone() };
            let mut rest = &source[at..];
            if start == "crate::" {
                rest = &rest[start.len()..];
            }
            while let Some(behind) = rest.strip_prefix("super::") {
                base.pop();
                rest = behind;
            }
            expand(&base, rest, &mut paths);
        }
    }
    paths
}

/// Reads one path, or a list of them in braces. Returns the text after it.
fn expand<'a>(base: &Module, text: &'a str, paths: &mut Vec<Module>) -> &'a str {
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(base, rest.trim_start(), paths).trim_start();
            rest = match rest.strip_prefix(',') {
                Some(rest) => rest.trim_start(),
                None => return rest.strip_prefix('}').unwrap_or(rest),
            };
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut path = base.clone();
    if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    if let Some(behind) = rest.strip_prefix("::") {
        return expand(&path, behind, paths);
    }
    paths.push(path);
    // An item under another name.
    if let Some(behind) = rest.strip_prefix(" as ") {
        rest = behind.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    }
    rest
}

#[test]
fn rooms_use_each_other_one_way() {
    let mut checked = 0;
    for (module, source) in &modules() {
        let room = &module[0];
        let (_, allowed) = ROOMS.iter().find(|(name, _)| name == room).unwrap_or_else(|| panic!("{room} is no room"));
        for path in paths(module, source).iter().filter(|path| !path.is_empty()) {
            assert!(path[0] == *room || allowed.contains(&path[0].as_str()), "{} uses {}", module.join("/"), path[0]);
            checked += 1;
        }
    }
    assert!(checked > 500, "only {checked} imports were found: does the test still read them?");
}

#[test]
fn folders_of_the_server_use_each_other_one_way() {
    let mut checked = 0;
    for (module, source) in &modules() {
        // The fuzzer may use any module.
        let [room, folder, ..] = module.as_slice() else { continue };
        if room != "serve" || folder == "fuzzing" {
            continue;
        }
        let allowed = FOLDERS.iter().find(|(name, _)| name == folder);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("serve/{folder} is not in the list of folders"));
        for path in paths(module, source) {
            let [room, used, ..] = path.as_slice() else { continue };
            if room == "serve" && used != folder {
                assert!(allowed.contains(&used.as_str()), "{} uses serve/{used}", module.join("/"));
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "only {checked} imports were found: does the test still read them?");
    for (index, (folder, allowed)) in FOLDERS.iter().enumerate() {
        let below: Vec<_> = FOLDERS[..index].iter().map(|(name, _)| *name).collect();
        assert!(
            allowed.iter().all(|used| below.contains(used)),
            "serve/{folder} may use a folder that is not below it"
        );
    }
}

/// `tests/structure.mjs` follows a name to the file that defines it, so a `mod.rs` is a file like any other.
#[test]
fn files_and_the_parts_of_a_folder_form_no_circles() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/structure.mjs");
    let output = Command::new("node").arg(script).arg("--json").output().expect("node");
    let error = String::from_utf8_lossy(&output.stderr);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no structure: {error}"));
    let imports = found["imports"].as_object().expect("the imports of each file");
    let count: usize = imports.values().filter_map(Value::as_array).map(Vec::len).sum();
    assert!(count > 1000, "only {count} imports were found: does the script still read them?");
    let mut circles = Vec::new();
    let mut note = |what: &str, graph: &Value| {
        if graph["circles"].as_array().expect("a list of circles").is_empty() {
            return;
        }
        circles.push(format!("{what}: {} {}", graph["circles"], graph["importsInCircles"]));
    };
    note("files", &found["fileGraph"]);
    for folder in found["folders"].as_array().expect("the folders") {
        note(folder["folder"].as_str().expect("a folder"), folder);
    }
    assert!(circles.is_empty(), "imports form circles:\n{}", circles.join("\n"));
}
