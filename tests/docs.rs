//! What is documented is what there is: codes, transports and flags.

use clap::CommandFactory;
use longtail::internals::config::Cli;
use longtail::internals::transport::{ALL, Code};
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the document")
}

#[test]
fn every_code_and_transport_is_in_the_protocol() {
    let protocol = read("docs/protocol.md");
    for code in Code::ALL {
        assert!(protocol.contains(&format!("`{code}`")), "docs/protocol.md does not name {code}");
    }
    for transport in ALL.iter().filter(|transport| transport.has_path()) {
        assert!(protocol.contains(&format!("/{}", transport.name())), "docs/protocol.md: /{}", transport.name());
    }
}

#[test]
fn every_command_and_its_flags_are_in_the_documentation() {
    let operations = read("docs/operations.md");
    let cli = Cli::command();
    // The demo takes those, too.
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

#[test]
fn every_flag_is_in_the_readme_and_in_the_environment() {
    let readme = read("README.md");
    let cli = Cli::command();
    // The others are clients: docs/operations.md has their flags.
    let servers = cli.get_subcommands().filter(|command| command.get_name() == "demo");
    let arguments = servers.chain([&cli]).flat_map(|command| command.get_arguments());
    for (name, argument) in arguments.filter_map(|argument| argument.get_long().map(|long| (long, argument))) {
        if matches!(name, "help" | "version") {
            continue;
        }
        assert!(readme.contains(&format!("--{name}")), "README.md does not name --{name}");
        let wanted = format!("LONGTAIL_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(wanted.as_str()));
        assert!(argument.get_help_heading().is_some(), "--{name} is in no group of --help");
    }
}

/// The table of attacks names tests that there are.
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

/// The manual page is what `--help` says in a package, which is built without the demo. `LONGTAIL_WRITE=1 cargo test --test docs` writes it anew.
#[test]
fn the_manual_page_is_that_of_this_version() {
    let mut page = Vec::new();
    let command = Cli::command().version(env!("CARGO_PKG_VERSION")).mut_subcommand("demo", |demo| demo.hide(true));
    // Its date would be that of the build.
    clap_mangen::Man::new(command).date("").render(&mut page).expect("a page");
    let page = String::from_utf8(page).expect("UTF-8");
    if std::env::var_os("LONGTAIL_WRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/longtail.1");
        fs::write(path, &page).expect("the page is written");
    }
    assert!(
        read("packaging/longtail.1") == page,
        "packaging/longtail.1 is not what --help says now; LONGTAIL_WRITE=1 cargo test --test docs writes it anew"
    );
}
