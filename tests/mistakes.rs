//! What is said to somebody who has mistyped: one line, which names the flag or the variable and says the mend.

mod support;

use std::net::TcpListener;
use support::RedisServer;
use support::redis::free_port;
use support::server::run_to_end;

const NOWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--tcp-listen", "off"];

/// Exit code and the line that says why a server does not start.
async fn refused(args: &[&str]) -> (i32, String) {
    let (code, said) = run_to_end(args).await;
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("longtail")).collect();
    assert_eq!(lines.len(), 1, "{args:?}: {said}");
    (code, lines[0].to_owned())
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
        (format!("redis://{nobody}/"), true, "; start it, mend --redis, or set --wait-for-log".into()),
        (format!("redis://{at}/"), false, "required; it wants a password: --redis redis://:PASSWORD@HOST/".into()),
        (format!("redis://{at}/3"), false, "it wants a password: --redis redis://:PASSWORD@HOST/".into()),
        (format!("redis://:simsim@{at}/"), false, "redis://:PASSWORD@HOST/ or redis://USER:PASSWORD@HOST/".into()),
        (format!("redis://:sesame@{at}/99"), false, "mend the number of the database in --redis".into()),
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
