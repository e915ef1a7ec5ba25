//! The codes, transports and flags that the documentation names exist.

mod manual;
mod reference;

use clap::CommandFactory;
use longtail::internals::config::Cli;
use longtail::internals::transport::ALL;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the document")
}

#[test]
fn every_code_and_transport_is_in_the_documentation() {
    let wrong = reference::wrong_errors(&read("docs/errors.md"));
    assert!(wrong.is_empty(), "docs/errors.md: {wrong:?}");
    let protocol = read("docs/protocol.md");
    for transport in ALL.iter().filter(|transport| transport.has_path()) {
        assert!(protocol.contains(&format!("/{}", transport.name())), "docs/protocol.md: /{}", transport.name());
    }
}

#[test]
fn every_command_and_its_flags_are_in_the_documentation() {
    let operations = read("docs/operations.md");
    let cli = Cli::command();
    // The demo also takes these flags.
    let of_the_server: Vec<_> = cli.get_arguments().filter_map(|argument| argument.get_long()).collect();
    for command in cli.get_subcommands() {
        let name = command.get_name();
        assert!(operations.contains(&format!("longtail {name}")), "docs/operations.md does not show longtail {name}");
        let flags = command.get_arguments().filter_map(|argument| argument.get_long());
        for flag in flags.filter(|flag| !of_the_server.contains(flag)) {
            assert!(operations.contains(&format!("--{flag}")), "docs/operations.md: --{flag} of longtail {name}");
        }
    }
}

/// docs/configuration.md is made of the flags. `LONGTAIL_WRITE=1 cargo test --test integration docs::` writes it anew.
#[test]
fn the_configuration_page_has_every_flag() {
    let page = read("docs/configuration.md");
    let made = reference::configuration(&page);
    written("docs/configuration.md", &made);
    let cli = Cli::command();
    // The other commands are clients: docs/operations.md has their flags.
    let servers = cli.get_subcommands().filter(|command| command.get_name() == "demo");
    let arguments = servers.chain([&cli]).flat_map(|command| command.get_arguments());
    for (name, argument) in arguments.filter_map(|argument| argument.get_long().map(|long| (long, argument))) {
        if matches!(name, "help" | "version") {
            continue;
        }
        assert!(made.contains(&format!("| `--{name}")), "docs/configuration.md does not name --{name}");
        let wanted = format!("LONGTAIL_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(wanted.as_str()));
        assert!(argument.get_help_heading().is_some(), "--{name} is in no group of --help");
    }
}

/// Compares a file with its text, or writes the text into the file with LONGTAIL_WRITE=1.
fn written(path: &str, text: &str) {
    if std::env::var_os("LONGTAIL_WRITE").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), text).expect("the file is written");
    }
    assert!(
        read(path) == text,
        "{path} is not what the flags say now; LONGTAIL_WRITE=1 cargo test --test integration docs:: writes it anew"
    );
}

/// The flags that README.md and docs/configuration.md name exist.
#[test]
fn the_flags_of_the_readme_exist() {
    let cli = Cli::command();
    let commands = cli.get_subcommands().chain([&cli]);
    let known: BTreeSet<String> = commands
        .flat_map(|command| command.get_arguments())
        .filter_map(|flag| flag.get_long().map(str::to_owned))
        .collect();
    let is_of_all = |name: &str| matches!(name, "help" | "version");
    let mut checked = 0;
    let pages = ["configuration", "migrating", "php", "sizing", "troubleshooting", "upgrading"];
    let pages = pages.map(|name| format!("docs/{name}.md"));
    for page in pages.iter().map(String::as_str).chain(["README.md"]) {
        let text = read(page);
        for flag in text.split("`--").skip(1) {
            let name = flag.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().unwrap_or_default();
            let is_group = name.ends_with('-');
            assert!(is_group || is_of_all(name) || known.contains(name), "{page}: there is no flag --{name}");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} flags were found: does the test still read them?");
}

/// The table of attacks names tests that exist.
#[test]
fn every_test_in_the_table_of_attacks_is_there() {
    let table = read("docs/security.md");
    let mut checked = 0;
    for row in table.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let tests = row.trim_end_matches('|').rsplit('|').next().expect("a column");
        for name in tests.split('`').filter(|name| name.contains("::")) {
            let parts: Vec<&str> = name.split("::").collect();
            let is_there = match parts.as_slice() {
                ["src", rooms @ ..] => {
                    let room = read(&format!("src/{}.rs", rooms.join("/")));
                    ["#[test]", "#[tokio::test"].iter().any(|test| room.contains(test))
                }
                ["contract", test] => has_test(
                    &["cursors", "http", "messages", "refusals", "streams"]
                        .map(|file| format!("tests/contract/{file}.rs")),
                    test,
                ),
                [folder, file, test] => has_test(&[format!("tests/{folder}/{file}.rs")], test),
                [file, test] => has_test(&[format!("tests/{file}.rs")], test),
                _ => false,
            };
            assert!(is_there, "docs/security.md names {name}, which is not there");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names were found: does the test still read them?");
}

fn has_test(files: &[String], test: &str) -> bool {
    files.iter().any(|file| read(file).contains(&format!("fn {test}(")))
}

/// A file that `tests/main.rs` does not name would never run.
#[test]
fn every_file_of_tests_is_in_a_program() {
    let (programs, manifest) = (read("tests/main.rs"), read("Cargo.toml"));
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).expect("the tests");
    let mut checked = 0;
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let is_tests =
            if path.is_dir() { path.join("mod.rs").exists() } else { path.extension().is_some_and(|e| e == "rs") };
        if is_tests && name != "main" {
            let is_there =
                programs.contains(&format!("mod {name};")) || manifest.contains(&format!("path = \"tests/{name}.rs\""));
            assert!(is_there, "neither tests/main.rs nor Cargo.toml names {}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} files were found: does the test still read them?");
}

/// `cargo test --test NAME FILTER` names a program of Cargo.toml, and in `integration` also a module, so that it runs a
/// test.
#[test]
fn every_test_command_in_the_documentation_runs_something() {
    let (manifest, programs) = (read("Cargo.toml"), read("tests/main.rs"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("the pages").map(|entry| entry.expect("an entry").path());
    let pages = pages.chain([root.join("CONTRIBUTING.md"), root.join("README.md"), root.join("tests/main.rs")]);
    let mut checked = 0;
    for page in pages.filter(|page| page.is_file()) {
        let text = fs::read(&page).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).expect("readable");
        for rest in
            text.split("cargo test ").skip(1).filter_map(|rest| rest.split_once("--test ").map(|(_, rest)| rest))
        {
            let mut words = rest.split(|c: char| c.is_whitespace() || c == '`');
            let (program, filter) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let module = filter.split("::").next().unwrap_or_default();
            let is_there = manifest.contains(&format!("[[test]]\nname = \"{program}\""))
                && (program != "integration" || programs.contains(&format!("mod {module};")));
            assert!(is_there, "{}: cargo test --test {program} {filter}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 4, "only {checked} commands were found: does the test still read them?");
}

/// The manual page has the text of `--help`.
/// `LONGTAIL_WRITE=1 cargo test --test integration docs::` writes it anew.
#[test]
fn the_manual_page_is_that_of_this_version() {
    let page = manual::page();
    written("packaging/longtail.1", &page);
}

/// Every `src/…` path that docs/architecture.md names exists, and so does every folder of `src` in that page.
#[test]
fn every_path_in_the_architecture_exists() {
    let page = read("docs/architecture.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = page.split(|c: char| !(c.is_ascii_alphanumeric() || "_./".contains(c)));
    let named: BTreeSet<&str> =
        named.filter(|word| word.starts_with("src/")).map(|word| word.trim_end_matches('.')).collect();
    let missing: Vec<_> = named.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "docs/architecture.md names what does not exist: {missing:?}");
    assert!(named.len() > 100, "only {} paths were found: does the test still read them?", named.len());
    for folder in folders(&root.join("src")) {
        let folder = folder.strip_prefix(root).expect("a folder of the project").display().to_string();
        let is_named = named.iter().any(|path| path.starts_with(&format!("{folder}/")));
        assert!(is_named, "docs/architecture.md says nothing of {folder}");
    }
}

fn folders(at: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(at).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.is_dir()).flat_map(|path| folders(&path).into_iter().chain([path])).collect()
}

/// The steps of "The life of a request": `| what happens | file | functions |`.
#[test]
fn every_function_in_the_life_of_a_request_exists() {
    let page = read("docs/architecture.md");
    let mut checked = 0;
    for row in page.lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, file, functions] = cells.as_slice() else { continue };
        let file = file.trim_matches('`');
        let functions: Vec<&str> = functions.split(", ").map(|name| name.trim_matches('`')).collect();
        let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !(file.starts_with("src/") && file.ends_with(".rs") && functions.iter().all(is_name)) {
            continue;
        }
        let source = read(file);
        for name in functions {
            let is_there = [format!("fn {name}("), format!("fn {name}<")].iter().any(|text| source.contains(text));
            assert!(is_there, "docs/architecture.md: {file} has no function {name}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} functions were found: does the test still read them?");
}

/// Links between the pages lead to an existing file, and to an existing heading in it.
#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let mut checked = 0;
    for page in pages(".").into_iter().chain(pages("docs")).chain(pages("docs/adr")) {
        let text = fs::read_to_string(&page).expect("a page");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.contains(' ')) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name("").join(path) };
            let page = page.strip_prefix(root).expect("a page of the project").display();
            assert!(target.exists(), "{page}: {link} leads nowhere");
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).expect("a page");
                let is_there = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(is_there, "{page}: {link} names no heading");
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links were found: does the test still read them?");
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A block of code in a page.
struct Block {
    /// The page and the line.
    at: String,
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [".", "docs", "docs/adr", "examples", "examples/todo-php", "examples/java-applet", "static/package"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect("a folder"));
    let pages =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    let mut blocks = Vec::new();
    for page in pages {
        let mut open: Option<Block> = None;
        for (n, line) in fs::read_to_string(&page).expect("a page").lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.as_mut()) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    let page = page.strip_prefix(root).expect("a page of the project").display();
                    let at = format!("{page}:{}", n + 2);
                    open = Some(Block { at, language: language.trim().to_owned(), text: String::new() });
                }
                (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block without an end", page.display());
    }
    blocks
}

/// Runs a tool on a block. The tool has to accept the block without a warning.
fn takes(block: &Block, package: &str, command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).env("HOME", "/nonexistent").output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}: apt-get install {package}", command[0]));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{}: {}:\n{said}\n{}", block.at, command[0], block.text);
    let warns = ["[warn]", "[WARNING]", "[ALERT]"].iter().any(|word| said.contains(word));
    assert!(!warns, "{}: {}:\n{said}\n{}", block.at, command[0], block.text);
}

/// The text around a block that is only a part of its file, and the certificates that it names.
fn in_place(block: &Block, dir: &Path) -> String {
    let at = dir.display();
    let text = block.text.replace("/etc/ssl", &at.to_string());
    match block.language.as_str() {
        "nginx" => {
            let is_http = text.contains("server {");
            let text = if is_http { text } else { format!("server {{ listen 127.0.0.1:1;\n{text}}}\n") };
            let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"));
            format!(
                "pid {at}/pid; error_log {at}/log;\nevents {{}}\nhttp {{\naccess_log off;\n{}{text}}}\n",
                temps.concat()
            )
        }
        "apache" => {
            let modules = ["mpm_event", "authz_core", "setenvif", "proxy", "proxy_http", "proxy_wstunnel"];
            let load = modules.map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"));
            format!("{}ServerName x\nListen 127.0.0.1:1\nErrorLog {at}/log\nPidFile {at}/pid\n{text}", load.concat())
        }
        "php" if !text.starts_with("<?php") => format!("<?php\n{text}"),
        _ => text,
    }
}

/// The program for which a block of configuration or code is written accepts the block.
#[test]
fn every_block_is_taken_by_its_program() {
    let dir = super::support::redis::fresh_dir("blocks");
    let at = |name: &str| dir.join(name).display().to_string();
    let (key, certificate) = (at("privkey.pem"), at("fullchain.pem"));
    let request = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=localhost",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    let made = Command::new("openssl").args(request).output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(
        dir.join("both.pem"),
        [fs::read(&certificate).expect("a file"), fs::read(&key).expect("a file")].concat(),
    )
    .expect("a file");
    let mut checked = BTreeMap::new();
    for block in blocks() {
        let is_module = block.text.contains("import ");
        let extension = if block.language == "js" && is_module { "mjs" } else { &block.language };
        let file = at(&format!("block.{extension}"));
        fs::write(&file, in_place(&block, &dir)).expect("a file");
        match block.language.as_str() {
            "nginx" => takes(&block, "nginx-light", &["nginx", "-t", "-p", &at(""), "-e", &at("log"), "-c", &file]),
            "haproxy" => takes(&block, "haproxy", &["haproxy", "-c", "-f", &file]),
            "apache" => takes(&block, "apache2-bin", &["apache2", "-t", "-d", &at(""), "-f", &file]),
            "caddy" => {
                takes(&block, "caddy", &["caddy", "adapt", "--validate", "--adapter", "caddyfile", "--config", &file])
            }
            "yaml" => takes(
                &block,
                "python3-yaml",
                &["python3", "-c", "import sys, yaml; yaml.safe_load(open(sys.argv[1]))", &file],
            ),
            "php" => takes(&block, "php-cli", &["php", "-n", "-l", &file]),
            "sh" => takes(&block, "bash", &["bash", "-n", &file]),
            "js" => takes(&block, "nodejs", &["node", "--check", &file]),
            "json" => {
                // An ellipsis stands for an object that is left out.
                let json: Result<serde_json::Value, _> = serde_json::from_str(&block.text.replace("{…}", "{}"));
                assert!(json.is_ok(), "{}: {json:?}", block.at);
            }
            "http" => {
                let (head, body) = block.text.split_once("\n\n").expect("a head and a body");
                let mut lines = head.lines();
                assert!(lines.next().is_some_and(|line| line.ends_with(" HTTP/1.1")), "{}", block.at);
                assert!(lines.all(|line| line.contains(": ")), "{}", block.at);
                let json: Result<serde_json::Value, _> = serde_json::from_str(body);
                assert!(json.is_ok(), "{}: {json:?}", block.at);
            }
            // These blocks have tests of their own: `redis_access` reads the rights from the page, and browsers run the
            // page of README.md.
            "acl" | "html" => {}
            // These blocks are for readers, and no program runs them.
            "" | "text" | "mermaid" => {}
            other => panic!("{}: no program takes a block of {other:?}: add it here", block.at),
        }
        *checked.entry(block.language).or_insert(0) += 1;
    }
    for language in ["nginx", "haproxy", "apache", "caddy", "yaml", "php", "sh", "js", "json", "http"] {
        assert!(checked.contains_key(language), "no block of {language}: does the test still read them? {checked:?}");
    }
    fs::remove_dir_all(dir).ok();
}
