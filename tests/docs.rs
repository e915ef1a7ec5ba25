//! What is documented is what there is: codes, transports and flags.

use clap::CommandFactory;
use longtail::config::Cli;
use longtail::transport::{ALL, Code};
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
fn every_flag_is_in_the_readme_and_in_the_environment() {
    let readme = read("README.md");
    let cli = Cli::command();
    let arguments = cli.get_subcommands().chain([&cli]).flat_map(|command| command.get_arguments());
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
                ["src", rooms @ ..] => read(&format!("src/{}.rs", rooms.join("/"))).contains("#[test]"),
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
