//! Errors after a mistake in the configuration: a line that names the flag or the variable, and says how to fix it.

use crate::support;

use std::net::TcpListener;
use support::command::run;
use support::guarded::{KEY, guarded};
use support::redis::free_port;
use support::server::run_to_end;
use support::{Certificate, Log, Node, RedisServer, Request, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NOWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--tcp-listen", "off"];

/// Exit code and the line that says why a server does not start.
async fn refused(args: &[&str]) -> (i32, String) {
    let (code, said) = run_to_end(args).await;
    let is_error = |line: &&str| line.starts_with("longtail: ") || line.starts_with("error: ");
    let lines: Vec<&str> = said.lines().filter(is_error).collect();
    assert_eq!(lines.len(), 1, "{args:?}: {said}");
    (code, lines[0].to_owned())
}

/// clap's own errors.
#[tokio::test]
async fn the_command_line() {
    for (args, error) in [
        (&["tail"][..], "the following required arguments were not provided:"),
        (&["--lisen", "127.0.0.1:0"], "unexpected argument '--lisen' found"),
        (&["chek"], "unrecognized subcommand 'chek'"),
        (&["check", "a", "b"], "unexpected argument 'b' found"),
        (&["--port", "8080"], "unexpected argument '--port' found"),
        (&["serve"], "unrecognized subcommand 'serve'"),
        (&["--listen"], "a value is required for '--listen <ADDR>' but none was supplied"),
        (
            &["--listen", "x"],
            "invalid value 'x' for '--listen <ADDR>': use an address and a port, such as 127.0.0.1:8080",
        ),
        (&["--log-format", "xml"], "invalid value 'xml' for '--log-format <LOG_FORMAT>'"),
        (&["--heartbeat-seconds", "15s"], "invalid value '15s' for '--heartbeat-seconds <S>': "),
        (&["--away-seconds", "0"], "invalid value '0' for '--away-seconds <S>': 0 is not in 1..=3600"),
        (&["--max-connections", "-1"], "invalid value '-1' for '--max-connections <N>': "),
        (&["--publish-key", "x", "demo"], "the subcommand 'demo' cannot be used with '--publish-key <KEY>'"),
        (&["--open", "check"], "the subcommand 'check' cannot be used with '--open'"),
        (&["tail", "a", "--last", "1", "--cursor", "b"], "the argument '--last <N>' cannot be used with '--cursor"),
        // A value that may be a secret is not repeated.
        (
            &["--publish-key", "s3cr3t\u{7f}"],
            "invalid value '(not shown)' for '--publish-key <KEY>': use letters, digits",
        ),
        (&["--authorize-url", "http://me:s3cr3t@x/"], "invalid value '(not shown)' for '--authorize-url <URL>': use "),
    ] {
        let (code, said) = refused(args).await;
        assert!(code == 64 && said.starts_with(&format!("error: {error}")), "{args:?}: {code} {said}");
        assert!(!said.contains("s3cr3t"), "{args:?}: {said}");
    }
    let (code, said) = refused(&["--log", "debgu"]).await;
    let wanted = "longtail: --log debgu: use error, warn, info, debug or trace, also per module, such as ";
    assert!(code == 64 && said.starts_with(wanted), "{code} {said}");
}

/// The names of flags for the address and the start in other servers. The error gives the right flag.
#[tokio::test]
async fn names_that_other_servers_have() {
    let listen = "--listen 127.0.0.1:8080";
    for (args, tip) in [
        (&["--port", "8080"][..], listen),
        (&["--port=8080"], listen),
        (&["-p", "8080"], listen),
        (&["-p8080"], listen),
        (&["--host", "0.0.0.0"], listen),
        (&["--bind=0.0.0.0:80"], listen),
        (&["--open", "--addr", ":80"], listen),
        (&["serve"], listen),
        (&["serve", "--listen", "127.0.0.1:0"], listen),
        (&["server"], listen),
        (&["start"], listen),
        (&["8080"], listen),
        (&[":8080"], listen),
        (&["127.0.0.1:8080"], listen),
        (&["tail", "a", "--port", "8080"], "--url http://127.0.0.1:8080"),
        (&["publish", "a", "1", "--host", "x"], "--url http://127.0.0.1:8080"),
        (&["check", "--port", "8080"], "longtail check http://127.0.0.1:8080"),
    ] {
        let done = run(args, "").await;
        assert!(done.code == 64 && done.err.contains(tip), "{args:?}: {done}");
    }
    for args in [&["-x"][..], &["--colour"], &["chek"]] {
        let done = run(args, "").await;
        assert!(done.code == 64 && !done.err.contains("127.0.0.1:8080"), "{args:?}: {done}");
    }
}

/// The program as the packages build it.
#[cfg(not(feature = "demo"))]
#[tokio::test]
async fn a_build_without_the_demo_says_how_to_get_it() {
    for args in [&["demo"][..], &["demo", "--open", "--weather-listen", "127.0.0.1:0"], &["demo", "--help"]] {
        let (code, said) = refused(args).await;
        assert!(code == 64 && said.contains("cargo feature `demo`"), "{args:?}: {code} {said}");
    }
}

/// An error names the variable that has set a value.
#[tokio::test]
async fn the_environment() {
    for (args, says) in [
        (&["LONGTAIL_LISTEN=foo"][..], "error: invalid value 'foo' for 'LONGTAIL_LISTEN': use an address and a port"),
        (
            &["LONGTAIL_LISTEN=foo", "--listen", "bar"],
            "error: invalid value 'bar' for '--listen <ADDR>': use an address and a port",
        ),
        (&["LONGTAIL_OPEN=maybe"], "error: invalid value 'maybe' for 'LONGTAIL_OPEN': "),
        (
            &["LONGTAIL_PUBLISH_KEY=s3cr3t\u{7f}"],
            "error: invalid value '(not shown)' for 'LONGTAIL_PUBLISH_KEY': use letters",
        ),
        (&["LONGTAIL_REDIS=nonsense"], "longtail: LONGTAIL_REDIS: it is not a URL"),
        (
            &["LONGTAIL_OPEN=1", "--public", "a"],
            "longtail: LONGTAIL_OPEN allows everything to everybody, and --public restricts it",
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
    let wanted = "error: the argument '--token-file <FILE>' cannot be used with 'LONGTAIL_TOKEN'\n";
    assert!(done.err.starts_with(wanted), "{}", done.err);
    let done = run(&["check", "LONGTAIL_URL=ftp://x"], "").await;
    assert!(done.err.starts_with("longtail check: LONGTAIL_URL: use a URL such as"), "{}", done.err);
}

/// /etc/default/longtail has no other content, and a mistyped variable there would have no effect.
#[tokio::test]
async fn variables_that_no_flag_has() {
    let node = Node::start(&[
        "LONGTAIL_MAX_CONECTIONS=5",
        "LONGTAIL_FOO=1",
        // Variables of other programs, variables that our own scripts set, and those that Kubernetes sets for a
        // Service.
        "LONGTAIL_TOKEN=x",
        if cfg!(feature = "demo") { "LONGTAIL_WEATHER_LISTEN=127.0.0.1:0" } else { "LONGTAIL_URL=http://127.0.0.1" },
        "LONGTAIL_BIN=x",
        "LONGTAIL_SERVICE_HOST=10.0.0.1",
        "LONGTAIL_PORT=tcp://10.0.0.1:8080",
        "LONGTAIL_PORT_TCP_ADDR=10.0.0.1",
    ])
    .await;
    let log = node.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(warnings[0].contains("LONGTAIL_FOO is not a setting and has no effect"), "{log}");
    assert!(
        warnings[1].contains("LONGTAIL_MAX_CONECTIONS is not a setting; did you mean LONGTAIL_MAX_CONNECTIONS?"),
        "{log}"
    );
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
        let wanted = format!("longtail: {flag} {}: the address is already in use; choose another{off}", taken.1);
        assert_eq!((code, said), (71, wanted));
    }
    // No machine has this address for documentation (RFC 5737).
    let (code, said) = refused(&["--open", "--listen", "192.0.2.1:0", "--tcp-listen", "off"]).await;
    assert!(
        code == 71 && said.contains("--listen 192.0.2.1:0: this machine does not have this address"),
        "{code} {said}"
    );
}

/// The error suggests waiting if that helps.
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

/// A URL of `--redis` that leads to another server: the error is one line, without the text of a parser.
#[tokio::test]
async fn a_redis_that_is_another_server() {
    let greets = async |greeting: &'static str, answer: &'static str| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(greeting.as_bytes()).await.ok();
                while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        at
    };
    let longtail = Node::start(&[]).await;
    for (at, speaks) in [
        (longtail.http, true),
        (greets("", "HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nhello").await, true),
        (greets("", "<html>\n<body>no</body>\n</html>\n").await, true),
        (greets("SSH-2.0-OpenSSH_9.2\r\n", "").await, true),
        (greets("220 mail.example ESMTP\r\n", "500 what?\r\n").await, true),
        (greets("", "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{46}").await, false),
    ] {
        for (scheme, wanted) in [
            (
                "redis",
                "does not speak Redis's protocol; it may be an HTTP server, or a port with TLS (rediss://): correct --redis",
            ),
            ("rediss", "does not speak TLS; correct --redis, or use redis:// for a Redis without TLS"),
        ] {
            // A handshake that gets an alert as its answer counts as a handshake.
            if scheme == "rediss" && !speaks {
                continue;
            }
            let url = format!("{scheme}://{at}/");
            let mut args = NOWHERE.to_vec();
            args.extend(["--redis", &url]);
            if scheme == "rediss" {
                // Reading all of the system's authorities may take as long as a connection may.
                args.extend(["--redis-tls-ca", &Certificate::common().certificate]);
            }
            let (code, said) = run_to_end(&args).await;
            let from = said.find("longtail: ").unwrap_or_else(|| panic!("{url}: {said}"));
            let lines: Vec<&str> = said[from..].lines().collect();
            assert_eq!((code, lines.len()), (69, 1), "{url}: {said}");
            assert!(lines[0].ends_with(wanted), "{}", lines[0]);
            assert!(lines[0].contains("Redis at ") && lines[0].contains(&at.to_string()), "{}", lines[0]);
        }
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
    assert!(status.status == 401 && status.text().contains("--admin-listen"), "{}", status.text());
    let foreign = Request::get("/poll?channel=news").header("Origin", "https://evil.example").send(node.http).await;
    assert_eq!((foreign.status, foreign.error_code().as_str()), (403, "forbidden_origin"));
    assert!(foreign.text().contains("name it with --allow-origin"), "{}", foreign.text());
    let sandboxed = Request::get("/poll?channel=news").header("Origin", "null").send(node.http).await;
    assert!(sandboxed.text().contains("only --allow-origin '*' admits them"), "{}", sandboxed.text());
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
    assert!(said.ends_with(": the server does not speak TLS: use http://\n"), "{said}");
    let own = Certificate::make("of-its-own", &[]);
    let node = Node::start(&own.flags()).await;
    let said = check(&node).await;
    assert!(said.contains("certificate") && said.contains("set SSL_CERT_FILE to a PEM file"), "{said}");
}

/// Wide terminals and narrow ones: text that is laid out by hand is not wrapped again.
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
