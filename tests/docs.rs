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
fn every_command_and_its_flags_are_in_the_documentation() {
    let operations = read("docs/operations.md");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(operations.contains(&format!("longtail {name}")), "docs/operations.md does not show longtail {name}");
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(operations.contains(&format!("--{flag}")), "docs/operations.md: --{flag} of longtail {name}");
        }
    }
}

#[test]
fn every_flag_is_in_the_readme_and_in_the_environment() {
    let readme = read("README.md");
    for flag in Cli::command().get_arguments().filter_map(|argument| argument.get_long().map(|long| (long, argument))) {
        let (name, argument) = flag;
        if matches!(name, "help" | "version") {
            continue;
        }
        assert!(readme.contains(&format!("--{name}")), "README.md does not name --{name}");
        let wanted = format!("LONGTAIL_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(wanted.as_str()));
        assert!(argument.get_help_heading().is_some(), "--{name} is in no group of --help");
    }
}

/// The manual page is what `--help` says. `LONGTAIL_WRITE=1 cargo test --test docs` writes it anew.
#[test]
fn the_manual_page_is_that_of_this_version() {
    let mut page = Vec::new();
    let command = Cli::command().version(env!("CARGO_PKG_VERSION"));
    // Its date would be that of the build.
    clap_mangen::Man::new(command).date("").render(&mut page).expect("a page");
    let page = String::from_utf8(page).expect("UTF-8");
    if std::env::var_os("LONGTAIL_WRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/longtail.1");
        fs::write(path, &page).expect("the page is written");
    }
    assert!(
        read("packaging/longtail.1") == page,
        "LONGTAIL_WRITE=1 cargo test --test docs writes packaging/longtail.1 anew"
    );
}

/// Each attack in the table has the test that it names.
#[test]
fn every_attack_has_its_test() {
    let mut named = 0;
    for row in read("docs/security.md").lines().filter(|line| line.starts_with("| ")) {
        let Some(cell) = row.trim_end_matches(" |").rsplit(" | ").next() else { continue };
        let mut file = String::new();
        // `file` `name`, `name`, `file` `name`
        for word in cell.split('`').skip(1).step_by(2) {
            let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
            if tests.join(format!("{word}.rs")).exists() || tests.join(word).is_dir() {
                word.clone_into(&mut file);
                continue;
            }
            let sources: Vec<String> = match fs::read_dir(tests.join(&file)) {
                Ok(parts) => {
                    parts.map(|part| fs::read_to_string(part.expect("a file").path()).expect("text")).collect()
                }
                Err(_) => vec![read(&format!("tests/{file}.rs"))],
            };
            let wanted = format!("fn {word}(");
            assert!(sources.iter().any(|source| source.contains(&wanted)), "docs/security.md: {file} has no {word}");
            named += 1;
        }
    }
    assert!(named >= 25, "only {named} tests were found: does the test still read the table?");
}
