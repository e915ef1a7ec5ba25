//! The manual page: the text of `--help`, and the sections that `--help` does not have.

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use longtail::internals::config::Cli;

/// Variables that no flag of the server names.
const ENVIRONMENT: [(&str, &str); 7] = [
    (
        "LONGTAIL_…",
        "Each flag of the server has a variable: --max-connections is LONGTAIL_MAX_CONNECTIONS. A flag overrides its variable.",
    ),
    ("LONGTAIL_URL", "The server for longtail check, publish and tail."),
    ("LONGTAIL_TOKEN, LONGTAIL_TOKEN_FILE", "The token or the server key for these commands, or a file with it."),
    ("SSL_CERT_FILE", "The certificate authorities that these commands and the server's own requests trust."),
    ("LISTEN_FDS, LISTEN_FDNAMES", "Sockets that systemd has bound. They replace --listen and --tcp-listen."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC", "Where and how often the server tells systemd that it works."),
    ("RUST_BACKTRACE", "With 1, the log contains a backtrace after a panic."),
];

/// The exit codes, as in sysexits.h.
pub const EXIT_STATUS: [(&str, &str); 6] = [
    ("0", "The server has drained, or the command has succeeded."),
    ("1", "check has found a fault, healthcheck a server that is not ready, or the server has refused a command."),
    ("64", "A flag, a variable or a file is invalid."),
    ("69", "Redis is not reachable at start, or a command cannot reach the server."),
    ("70", "The server can no longer receive data from clients. Restart it."),
    ("71", "The server cannot listen on an address, or lacks file descriptors or threads."),
];

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "Drain: the server sends its readers to other nodes and exits. A second signal ends it at once.",
    ),
    ("SIGHUP", "Reads the certificate and the secret of --hook-secret-file again, and opens the access log again."),
];

const FILES: [(&str, &str); 4] = [
    ("/etc/default/longtail", "Settings of the systemd service, as variables."),
    ("/etc/logrotate.d/longtail", "Rotates /var/log/longtail/access.log, if LONGTAIL_ACCESS_LOG names this file."),
    ("/usr/share/longtail/grafana.json", "A dashboard of the metrics."),
    ("/usr/share/doc/longtail/docs/", "The documentation."),
];

const EXAMPLES: [(&str, &str); 6] = [
    ("A server on this machine, with the log in Redis:", "longtail --redis redis://127.0.0.1/"),
    (
        "A server for browsers, with TLS. An application decides who may read and publish:",
        "longtail --listen 0.0.0.0:443 --tls-cert fullchain.pem --tls-key privkey.pem --authorize-url https://www.example.com/authorize.php",
    ),
    (
        "Publish a message, and print the messages of a channel:",
        "longtail publish todo '{\"title\":\"milk\"}'; longtail tail todo --last 20",
    ),
    ("Try every transport from here:", "longtail check https://push.example.com"),
    ("The health check of a container whose variables configure the server:", "longtail healthcheck"),
    ("Completions for bash:", "longtail completions bash > ~/.local/share/bash-completion/completions/longtail"),
];

/// The definition of the apostrophe that each part of a page begins with.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The page of a packaged build, which has no demo.
pub fn page() -> String {
    let command = Cli::command().version(env!("CARGO_PKG_VERSION")).mut_subcommand("demo", |demo| demo.hide(true));
    // The page has no date, because it would be the date of the build.
    let man = Man::new(command).date("");
    let mut page = Vec::new();
    let mut render = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        man.render_subcommands_section(&mut page)?;
        sections().to_writer(&mut page)?;
        man.render_version_section(&mut page)
    };
    render().expect("a page");
    let page = String::from_utf8(page).expect("UTF-8");
    // Each section defines the apostrophe, and the page needs it once.
    format!("{APOSTROPHE}{}", page.replace(APOSTROPHE, ""))
}

fn sections() -> Roff {
    let mut roff = Roff::new();
    let lists: [(&str, &[(&str, &str)]); 4] =
        [("ENVIRONMENT", &ENVIRONMENT), ("EXIT STATUS", &EXIT_STATUS), ("SIGNALS", &SIGNALS), ("FILES", &FILES)];
    for (heading, rows) in lists {
        roff.control("SH", [heading]);
        for (name, meaning) in rows {
            roff.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["EXAMPLES"]);
    for (what, command) in EXAMPLES {
        let lines: [Vec<Inline>; 2] = [vec![roman(what)], vec![bold(command)]];
        let [what, command] = lines;
        roff.text(what).control("RS", ["4"]).text(command).control("RE", []).control("PP", []);
    }
    roff
}
