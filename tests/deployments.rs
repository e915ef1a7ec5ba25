//! The files for deployments: the containers of compose.yaml, the Kubernetes example and the workflows. Their programs
//! run here without containers, with the settings in the files.

use crate::support;

use clap::CommandFactory;
use longtail::internals::config::Cli;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::redis::free_port;
use support::server::run_to_end;
use support::world::start_on;
use support::{Node, Reader, RedisServer, Request, Subscription, eventually};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The documents in a YAML file.
pub fn yaml(name: &str) -> Vec<Value> {
    let script = "import sys, yaml, json; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let done = Command::new("python3").args(["-c", script]).arg(path(name)).output().expect("python3 runs");
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

/// The variables of a mapping as arguments of a node: `NAME=value`. Each of them belongs to a flag.
fn settings(variables: &Value) -> Vec<String> {
    let cli = Cli::command();
    let known: BTreeSet<_> = cli.get_arguments().filter_map(|flag| flag.get_env()?.to_str()).collect();
    let entries = variables.as_object().expect("variables").iter();
    entries
        .map(|(name, value)| {
            assert!(known.contains(name.as_str()), "no flag has the variable {name}");
            format!("{name}={}", value.as_str().unwrap_or_else(|| panic!("{name} is not a text")))
        })
        .collect()
}

async fn node(redis: &RedisServer, settings: &[String], more: &[&str]) -> Node {
    let args: Vec<&str> = settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
    start_on(redis, &args).await
}

/// A command of compose.yaml, with the paths and ports of this machine. It ends with the value.
fn php(service: &Value, port: u16, redis: &RedisServer, node: &Node) -> tokio::process::Child {
    let words = service["command"].as_array().expect("a command").iter().map(|word| word.as_str().expect("a text"));
    let words = words.map(|word| match word {
        "0.0.0.0:8000" => format!("127.0.0.1:{port}"),
        word => word.replace("/app/", &format!("{}/", path("examples").display())),
    });
    let words: Vec<String> = words.collect();
    assert_eq!(words[0], "php");
    let environment = service["environment"].as_object().expect("variables");
    assert_eq!(environment.keys().collect::<Vec<_>>(), ["LONGTAIL", "REDIS"]);
    let mut command = tokio::process::Command::new("php");
    command.arg("-n").args(&words[1..]).env("REDIS", redis.url()).env("LONGTAIL", format!("http://{}", node.http));
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("php is installed")
}

/// The clock moves the ball, and a click moves it, too. The page may read from the server.
#[tokio::test]
async fn the_containers_of_compose_move_the_ball() {
    let compose = &yaml("compose.yaml")[0]["services"];
    for (service, check) in [("redis", "redis-cli"), ("longtail", "/usr/bin/longtail")] {
        assert_eq!(compose[service]["healthcheck"]["test"][1], check, "{service}");
    }
    let dockerfile = compose["longtail"]["build"]["dockerfile"].as_str().expect("a file");
    assert!(path(dockerfile).exists());
    let options = compose["redis"]["command"].as_array().expect("a command").iter().skip(1);
    let options: Vec<&str> = options.map(|word| word.as_str().expect("a text")).collect();
    let redis = RedisServer::start_with(&options).await;
    let node = node(&redis, &settings(&compose["longtail"]["environment"]), &[]).await;
    let web_port = free_port();
    let _web = php(&compose["web"], web_port, &redis, &node);
    let ticker = php(&compose["ticker"], 0, &redis, &node);
    let mut reader = Reader::open(&node, &node.transport("sse").await, Subscription::to(&["ball"])).await;
    let moved = reader.next_message().await;
    assert!(moved.text.contains("the clock") && moved.text.contains("\"x\""), "{moved:?}");
    drop(ticker);

    let web = ([127, 0, 0, 1], web_port).into();
    eventually("the page", async || tokio::net::TcpStream::connect(web).await.ok()).await;
    let page = Request::get("/").send(web).await;
    assert!(page.status == 200 && page.text().contains(&format!("src=\"http://{}/client.js\"", node.http)));
    let click = Request::post("/", b"x=7&y=200").header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(click.send(web).await.status, 204);
    while !reader.next_message().await.text.contains("{\"x\":7,\"y\":100,\"by\":\"a click\"}") {}
    for origin in ["http://localhost:8000", "http://127.0.0.1:8000"] {
        let answer = Request::get("/poll?channel=ball").header("Origin", origin).send(node.http).await;
        let allowed = answer.header("Access-Control-Allow-Origin");
        assert!(answer.status == 200 && (allowed == Some(origin) || allowed == Some("*")), "{allowed:?}");
    }
    let foreign = Request::get("/poll?channel=ball").header("Origin", "http://other.example:8000");
    assert_eq!(foreign.send(node.http).await.error_code(), "forbidden_origin");
    assert_eq!(Request::post("/publish?channel=ball", b"1").send(node.http).await.status, 401);
}

/// A node with the settings of the example is ready, its probes find it, and its drain fits the pod's.
#[tokio::test]
async fn the_kubernetes_example_starts_a_node() {
    let documents = yaml("packaging/kubernetes.yaml");
    let find = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect(kind);
    let variables = &find("ConfigMap")["data"];
    let pod = &find("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let number = |name: &str| variables[name].as_str().expect(name).parse::<u64>().expect("a number");
    let drain = number("LONGTAIL_DRAIN_DELAY") + number("LONGTAIL_DRAIN_SECONDS");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds") > drain);

    let secrets = container["env"].as_array().expect("secrets").iter();
    let secrets: Value = secrets
        .map(|secret| {
            assert!(secret["valueFrom"]["secretKeyRef"]["name"].is_string(), "{secret}");
            (secret["name"].as_str().expect("a name").to_owned(), Value::from("of-this-test"))
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut settings = settings(variables);
    settings.extend(self::settings(&secrets).into_iter().filter(|secret| !secret.starts_with("LONGTAIL_REDIS=")));
    let redis = RedisServer::start().await;
    let admin = format!("127.0.0.1:{}", free_port());
    let node = node(&redis, &settings, &["--admin-listen", &admin]).await;
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&Value::from(path), &Value::from("admin")), "{probe}");
        let answer = Request::get(path).send(admin.parse().expect("an address")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for (name, variable) in [("http", "LONGTAIL_LISTEN"), ("admin", "LONGTAIL_ADMIN_LISTEN")] {
        let ports = container["ports"].as_array().expect("ports");
        let port = ports.iter().find(|port| port["name"] == name).expect(name)["containerPort"].to_string();
        assert!(variables[variable].as_str().is_some_and(|address| address.ends_with(&format!(":{port}"))), "{name}");
    }
    let selector = &find("Service")["spec"]["selector"];
    assert_eq!(selector, &find("Deployment")["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(selector, &find("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]);
    assert!(!node.log().contains("is not a setting"), "{}", node.log());

    // The addresses of the file itself are accepted: access is restricted. Only the Redis is missing.
    let mut all: Vec<&str> = settings.iter().map(String::as_str).collect();
    let listen = format!("LONGTAIL_LISTEN=0.0.0.0:{}", free_port());
    let admin = format!("LONGTAIL_ADMIN_LISTEN=0.0.0.0:{}", free_port());
    all.extend(["LONGTAIL_REDIS=redis://127.0.0.1:1/", &listen, &admin, "LONGTAIL_WAIT_FOR_LOG=false"]);
    let (code, said) = run_to_end(&all).await;
    assert_eq!(code, 69, "{said}");
}

/// The words of a script that name files of this project.
fn named_files(script: &str) -> Vec<&str> {
    let words = script.split(|c: char| c.is_whitespace() || "\"'".contains(c));
    let is_ours = |word: &&str| {
        ["packaging/", "tests/", "./static/"].iter().any(|folder| word.starts_with(folder)) && !word.contains('*')
    };
    words.filter(is_ours).collect()
}

/// The scripts of the workflows are shell, and the files and jobs that they name exist.
#[test]
fn workflows_name_what_exists() {
    let mut checked = 0;
    for name in ["test", "release"] {
        let workflow = &yaml(&format!(".github/workflows/{name}.yml"))[0];
        let jobs = workflow["jobs"].as_object().expect("jobs");
        for (job_name, job) in jobs {
            let needs = match &job["needs"] {
                Value::String(one) => vec![one.as_str()],
                Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            assert!(needs.iter().all(|job| jobs.contains_key(*job)), "{job_name}: {needs:?}");
            assert!(job["timeout-minutes"].is_u64(), "{job_name} may run for ever");
            for step in job["steps"].as_array().expect("steps") {
                let Some(script) = step["run"].as_str() else { continue };
                // An expression becomes a word before the shell sees the script.
                let plain = script.replace("${{", "").replace("}}", "");
                let checks = Command::new("bash").args(["-n", "-c", &plain]).output().expect("bash runs");
                assert!(checks.status.success(), "{job_name}: {}", String::from_utf8_lossy(&checks.stderr));
                for file in named_files(&plain) {
                    assert!(path(file).exists(), "{job_name}: {file} does not exist");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 5, "only {checked} files were found: does the test still read them?");
}

/// All parts of a release have one version.
#[test]
fn a_release_has_one_version() {
    let check = |tag: &str| {
        let done = Command::new(path("packaging/check-version")).arg(tag).output().expect("the script runs");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert_eq!(check(concat!("v", env!("CARGO_PKG_VERSION"))), (Some(0), String::new()));
    let (code, said) = check("v9.9.9");
    assert!(code == Some(1) && said.lines().count() == 5, "{said}");
}
