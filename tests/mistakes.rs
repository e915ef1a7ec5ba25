//! What is said to somebody who has mistyped: one line, which names the flag or the variable and says the mend.

mod support;

use std::net::TcpListener;
use support::command::run;
use support::guarded::{KEY, guarded};
use support::redis::free_port;
use support::server::run_to_end;
use support::{Certificate, Log, Node, RedisServer, Request, World};

const NOWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--tcp-listen", "off"];

/// Exit code and the line that says why a server does not start.
async fn refused(args: &[&str]) -> (i32, String) {
    let (code, said) = run_to_end(args).await;
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("longtail")).collect();
    assert_eq!(lines.len(), 1, "{args:?}: {said}");
    (code, lines[0].to_owned())
}

#[tokio::test]
async fn the_command_line() {
    for (args, says) in [
        (&["tail"][..], "longtail tail: <CHANNELS>... is missing; see longtail tail --help"),
        (&["publish"], "longtail publish: <CHANNEL> is missing; see longtail publish --help"),
        (&["--lisen", "127.0.0.1:0"], "longtail: there is no --lisen: did you mean --listen?"),
        (&["tail", "a", "--lats", "3"], "longtail tail: there is no --lats: did you mean --last?"),
        (&["--zzz"], "longtail: there is no --zzz; see longtail --help"),
        (&["chek"], "longtail: there is no command chek: did you mean check?"),
        (&["8080"], "longtail: there is no command 8080; see longtail --help"),
        (&["check", "a", "b"], "longtail check: b is one argument too many; see longtail check --help"),
        (&["--listen"], "longtail: a value is missing: --listen <ADDR>; see longtail --help"),
        (&["--listen", "x"], "longtail: --listen x: use an address and a port, as 127.0.0.1:8080"),
        (&["--log-format", "xml"], "longtail: --log-format xml: use text or json"),
        (&["--heartbeat-seconds", "15s"], "longtail: --heartbeat-seconds 15s: use a whole number of seconds"),
        (&["--away-seconds", "0"], "longtail: --away-seconds 0: use a number of seconds from 1 to 3600"),
        (&["--max-connections", "abc"], "longtail: --max-connections abc: use a whole number"),
        (&["--max-connections", "-1"], "longtail: --max-connections -1: use no number below 0"),
        (&["--publish-rate", "9999999999"], "longtail: --publish-rate 9999999999: use a number from 0 to 4294967295"),
        (&["--publish-key", "x", "demo"], "longtail: put flags behind the word: longtail demo --publish-key <KEY>"),
        (&["--url", "http://x", "tail", "a"], "longtail: put flags behind the word: longtail tail --url"),
        (&["--open", "check"], "longtail: --open is a flag of the server, which check is not; see longtail --help"),
        (
            &["tail", "a", "--last", "1", "--cursor", "b"],
            "longtail tail: --last and --cursor do not go together: set one",
        ),
        (&["--log", "debgu"], "longtail: --log debgu: use error, warn, info, debug or trace, also by module as "),
        // What may be a secret is not repeated.
        (&["--publish-key", "s3cr3t\u{7f}"], "longtail: --publish-key: use letters, digits and signs"),
        (&["--authorize-url", "http://me:s3cr3t@x/"], "longtail: --authorize-url: use an address as "),
    ] {
        let (code, said) = refused(args).await;
        assert!(code == 64 && said.starts_with(says) && !said.contains("s3cr3t"), "{args:?}: {code} {said}");
    }
}

/// Where it was a variable, the variable is named.
#[tokio::test]
async fn the_environment() {
    for (args, says) in [
        (&["LONGTAIL_LISTEN=foo"][..], "longtail: LONGTAIL_LISTEN=foo: use an address and a port"),
        (&["LONGTAIL_LISTEN=foo", "--listen", "bar"], "longtail: --listen bar: use an address and a port"),
        (&["LONGTAIL_OPEN=maybe"], "longtail: LONGTAIL_OPEN=maybe: use true or false"),
        (&["LONGTAIL_PUBLISH_KEY=s3cr3t\u{7f}"], "longtail: LONGTAIL_PUBLISH_KEY: use letters"),
        (&["LONGTAIL_REDIS=nonsense"], "longtail: LONGTAIL_REDIS: it is not a URL"),
        (
            &["LONGTAIL_OPEN=1", "--public", "a"],
            "longtail: LONGTAIL_OPEN lets everybody do everything, and --public says",
        ),
        (&["LONGTAIL_ACCESS_LOG=/nowhere/log"], "longtail: LONGTAIL_ACCESS_LOG: /nowhere/log: No such file"),
        (&["LONGTAIL_LOG=debgu"], "longtail: LONGTAIL_LOG debgu: use error, warn, info"),
    ] {
        let mut all = args.to_vec();
        if !args.iter().any(|arg| arg.contains("listen") || arg.contains("LISTEN")) {
            all.extend(NOWHERE);
        }
        let (code, said) = refused(&all).await;
        assert!(code == 64 && said.starts_with(says) && !said.contains("s3cr3t"), "{args:?}: {code} {said}");
    }
    let done = run(&["tail", "a", "LONGTAIL_TOKEN=x", "--token-file", "y"], "").await;
    assert_eq!(done.err, "longtail tail: --token-file and LONGTAIL_TOKEN do not go together: set one\n");
    let done = run(&["check", "LONGTAIL_URL=ftp://x"], "").await;
    assert!(done.err.starts_with("longtail check: LONGTAIL_URL: use an address as"), "{}", done.err);
}

/// /etc/default/longtail has nothing else, and what is mistyped there would have no effect.
#[tokio::test]
async fn variables_that_no_flag_has() {
    let node = Node::start(&[
        "LONGTAIL_MAX_CONECTIONS=5",
        "LONGTAIL_FOO=1",
        // Flags of others, what our own scripts set, and what Kubernetes tells of a Service.
        "LONGTAIL_TOKEN=x",
        "LONGTAIL_WEATHER_LISTEN=127.0.0.1:0",
        "LONGTAIL_BIN=x",
        "LONGTAIL_SERVICE_HOST=10.0.0.1",
        "LONGTAIL_PORT=tcp://10.0.0.1:8080",
        "LONGTAIL_PORT_TCP_ADDR=10.0.0.1",
    ])
    .await;
    let log = node.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(warnings[0].contains("LONGTAIL_FOO is no setting, and changes nothing"), "{log}");
    assert!(warnings[1].contains("LONGTAIL_MAX_CONECTIONS is no setting: is it LONGTAIL_MAX_CONNECTIONS?"), "{log}");
}

#[tokio::test]
async fn addresses_that_are_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).expect("its address");
    for (flag, off) in [("--listen", false), ("--tcp-listen", true), ("--admin-listen", false)] {
        let mut args = vec![flag, taken.1.as_str()];
        args.extend(NOWHERE.chunks(2).filter(|pair| pair[0] != flag).flatten());
        let (code, said) = refused(&args).await;
        let off = if off { ", or `off`" } else { "" };
        let wanted = format!("longtail: {flag} {}: it is in use already; choose another{off}", taken.1);
        assert_eq!((code, said), (71, wanted));
    }
    // An address for documentation (RFC 5737), which no machine has.
    let (code, said) = refused(&["--open", "--listen", "192.0.2.1:0", "--tcp-listen", "off"]).await;
    assert!(code == 71 && said.contains("--listen 192.0.2.1:0: this machine has no such address"), "{code} {said}");
}

/// Waiting is offered where it helps.
#[tokio::test]
async fn a_redis_that_is_not_there_or_lets_nobody_in() {
    let (plain, mut locked) = (RedisServer::start().await, RedisServer::start_with(&["--requirepass", "sesame"]).await);
    locked.set_login(":sesame@");
    let nobody = format!("127.0.0.1:{}", free_port());
    let at = format!("127.0.0.1:{}", locked.port());
    let no_tls = format!("rediss://127.0.0.1:{}/", plain.port());
    for (url, waits, says) in [
        (format!("redis://{nobody}/"), true, format!("Redis at {nobody}: no connection to Redis: ")),
        (format!("redis://{nobody}/"), true, "; start it, correct --redis, or set --wait-for-log".into()),
        (format!("redis://{at}/"), false, "required; it requires a password: --redis redis://:PASSWORD@HOST/".into()),
        (format!("redis://{at}/3"), false, "it requires a password: --redis redis://:PASSWORD@HOST/".into()),
        (format!("redis://:simsim@{at}/"), false, "redis://:PASSWORD@HOST/ or redis://USER:PASSWORD@HOST/".into()),
        (format!("redis://:sesame@{at}/99"), false, "correct the number of the database in --redis".into()),
        (no_tls, true, "timed out (does this port speak TLS?)".into()),
    ] {
        let mut args = NOWHERE.to_vec();
        args.extend(["--redis", &url]);
        let (code, said) = refused(&args).await;
        assert!(code == 69 && said.contains(&says), "{url}: {code} {said}");
        assert_eq!(said.contains("--wait-for-log"), waits, "{url}: {said}");
        assert!(!said.contains("simsim") && !said.contains("sesame"), "{said}");
    }
}

#[tokio::test]
async fn who_needs_credentials_is_told_where_they_go() {
    let node = guarded(&[]).await;
    let url = format!("http://{}", node.http);
    for args in [&["publish", "news", "1"][..], &["tail", "news"]] {
        let done = run(&[args, &["--url", &url]].concat(), "").await;
        let wanted = "401 unauthorized: this needs credentials: news; set LONGTAIL_TOKEN or --token-file\n";
        assert!(done.code == 1 && done.err.ends_with(wanted), "{done:?}");
    }
    let done = run(&["check", &url], "").await;
    let failures: Vec<&str> = done.out.lines().filter(|line| line.starts_with('✗')).collect();
    assert_eq!(failures.len(), 10, "{}", done.out);
    for line in failures {
        let has_status = !line.contains("✗ tcp") && !line.contains("✗ forever-frame");
        let said = if has_status { "401 " } else { "" };
        let said = format!(" {said}unauthorized: this needs credentials: longtail-check");
        assert!(line.ends_with(&said) && !line.contains("200"), "{line}");
    }
    let hint = done.out.lines().last().unwrap_or_default();
    assert!(hint.starts_with('!') && hint.contains("LONGTAIL_TOKEN") && hint.contains("--channel"), "{}", done.out);
    assert_eq!(done.out.matches("LONGTAIL_TOKEN").count(), 1, "{}", done.out);
    let done = run(&["check", &url, &format!("LONGTAIL_TOKEN={KEY}")], "").await;
    assert!(done.code == 0 && !done.out.contains('!'), "{}", done.out);

    let status = node.get("/status").await;
    assert!(status.status == 401 && status.text().contains("open it at --admin-listen"), "{}", status.text());
    let foreign = Request::get("/poll?channel=news").header("Origin", "https://evil.example").send(node.http).await;
    assert_eq!((foreign.status, foreign.error_code().as_str()), (403, "forbidden_origin"));
    assert!(foreign.text().contains("name it with --allow-origin"), "{}", foreign.text());
}

#[tokio::test]
async fn tls_that_is_not_there_or_not_trusted() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let check = async |node: &Node| {
        let done = run(&["check", &format!("https://localhost:{}", node.http.port())], "").await;
        assert_eq!((done.code, done.err.lines().count()), (69, 1), "{done:?}");
        done.err
    };
    let said = check(&node).await;
    assert!(said.ends_with(": no TLS there: use http://\n"), "{said}");
    let own = Certificate::make("of-its-own", &[]);
    let node = Node::start(&own.flags()).await;
    let said = check(&node).await;
    assert!(said.contains("certificate") && said.contains("SSL_CERT_FILE names a PEM file"), "{said}");
}

/// Wide terminals and narrow ones: what is laid out by hand is not broken anew.
#[tokio::test]
async fn help_fits_into_80_columns() {
    for command in [&["--help"][..], &["check", "--help"], &["publish", "--help"], &["tail", "--help"]] {
        let done = run(command, "").await;
        let (about, _) = done.out.split_once("Usage:").expect("a usage");
        let laid_out = about.lines().skip_while(|line| !line.is_empty());
        for line in laid_out {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
}
