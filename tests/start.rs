//! The first minute: the lines at the start that say what to open, and completions.

use crate::support;

use std::process::Command;
use support::Node;
use support::command::run;
use support::eventually;
use support::redis::fresh_dir;

/// The text of the last log line.
async fn last_line(args: &[&str]) -> (Node, String) {
    let node = Node::start(args).await;
    let line = eventually("the last line", async || {
        node.log().lines().find_map(|line| line.split_once("next: ").map(|(_, text)| text.to_owned()))
    })
    .await;
    assert!(node.log().lines().last().is_some_and(|last| last.contains(&line)), "{}", node.log());
    (node, line)
}

#[tokio::test]
async fn the_last_line_says_what_to_open() {
    let (node, line) = last_line(&[]).await;
    let url = format!("http://{}/", node.http);
    assert_eq!(line, format!("open {url} in a browser, and publish: curl -d hello '{url}publish?channel=demo'"));
    assert_eq!(node.get("/").await.status, 200);
    // The command of the line works.
    let command = line.split_once("curl ").expect("a command").1;
    let done = Command::new("sh").args(["-c", &format!("curl -sS {command}")]).output().expect("curl runs");
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert!(answer["messages"][0]["id"].is_string(), "{answer}");

    let (node, line) = last_line(&["--publish-key", "k"]).await;
    assert_eq!(line, format!("`longtail check http://{}/` tries every transport", node.http));
    let done = run(&["check", &format!("http://{}/", node.http), "LONGTAIL_TOKEN=k", "--idle", "0"], "").await;
    assert_eq!(done.code, 0, "{done}");
}

/// Each shell accepts its script. bash also completes words by it.
#[tokio::test]
async fn shells_complete_words() {
    let dir = fresh_dir("completions");
    for (shell, mark) in [
        ("bash", "complete -F _longtail"),
        ("zsh", "#compdef longtail"),
        ("fish", "complete -c longtail"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let done = run(&["completions", shell], "").await;
        assert!(done.code == 0 && done.out.contains(mark) && done.out.contains("healthcheck"), "{shell}: {done}");
        std::fs::write(dir.join(shell), done.out).expect("written");
    }
    let complete = |words: &[&str]| {
        let script = format!(
            r#"source {}/bash; COMP_WORDS=({}); COMP_CWORD={}; _longtail longtail "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"; printf '%s\n' "${{COMPREPLY[@]}}""#,
            dir.display(),
            words.join(" "),
            words.len() - 1
        );
        let done = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    assert_eq!(complete(&["longtail", "healthc"]), "healthcheck\n");
    assert_eq!(complete(&["longtail", "--tls-"]), "--tls-cert\n--tls-key\n");
    assert_eq!(complete(&["longtail", "--log-format", "j"]), "json\n");
    std::fs::remove_dir_all(dir).ok();
    let done = run(&["completions", "tcsh"], "").await;
    assert!(done.code == 64 && done.err.contains("possible values: bash"), "{done}");
}

/// `longtail demo` in a terminal: its output, without control characters.
#[cfg(feature = "demo")]
async fn demo_in_a_terminal(flags: &str) -> String {
    use std::process::Stdio;
    let command = format!("exec '{}' demo --tcp-listen off --log error {flags}", env!("CARGO_BIN_EXE_longtail"));
    let mut script = tokio::process::Command::new("script");
    script
        .args(["-qfec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut script = script.spawn().expect("script (bsdutils) runs");
    let mut said = String::new();
    let mut out = script.stdout.take().expect("a pipe");
    support::within(support::SOON, "the last line", async {
        let mut bytes = Vec::new();
        while !said.contains("in a browser.") {
            assert!(tokio::io::AsyncReadExt::read_buf(&mut out, &mut bytes).await.expect("read") > 0, "{said}");
            said = String::from_utf8_lossy(&bytes).into_owned();
        }
    })
    .await;
    // The terminal goes away, and the demo with it.
    support::redis::signal(script.id().expect("it runs"), "TERM");
    script.wait().await.expect("its end");
    said
}

/// A class points telephones at a terminal. A log file gets no drawing.
#[cfg(feature = "demo")]
#[tokio::test]
async fn a_demo_for_a_class_shows_a_code() {
    let said = demo_in_a_terminal("--open --listen 0.0.0.0:0").await;
    let lines: Vec<&str> = said.lines().collect();
    let is_drawn = |line: &&&str| !line.is_empty() && line.chars().all(|c| " ▀▄█".contains(c));
    let drawn = lines.iter().filter(is_drawn).count();
    let others = lines.iter().find(|line| line.starts_with("Other machines in this network open http://"));
    let others = others.unwrap_or_else(|| panic!("{said}"));
    assert!(drawn > 10 && !others.contains("0.0.0.0"), "{said}");
    assert!(lines.last().is_some_and(|line| line.starts_with("Open http://127.0.0.1:")), "{said}");

    let said = demo_in_a_terminal("--listen 127.0.0.1:0").await;
    assert!(said.starts_with("Only this machine can open the page. For a class: longtail demo --open "), "{said}");
}
