//! A connection that is told anything lives on, and answers each command with one line of JSON (a first
//! `subscribe` with two).
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::config::Cli;
use longtail::internals::serve::fuzzing::Conversation;
use longtail::{Config, Server};
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::pending;
use tokio::runtime::{Builder, Runtime};

struct World {
    runtime: Runtime,
    server: Server,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(world());
}

fn world() -> World {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let flags = ["longtail", "--listen", "127.0.0.1:0", "--tcp-listen", "off", "--retain-messages", "100"];
    let config: Config = clap::Parser::try_parse_from(flags).map(|cli: Cli| cli.config).expect("flags");
    let server = runtime.block_on(async {
        let server = Server::bind(&config).await.expect("a server");
        let hub = server.state().hub.clone();
        tokio::spawn(async move {
            hub.follow().await;
            pending::<()>().await
        });
        server.state().hub.ready().await;
        server
    });
    World { runtime, server }
}

fuzz_target!(|input: &[u8]| {
    WORLD.with_borrow(|world| {
        world.runtime.block_on(async {
            let mut conversation = Conversation::new(&world.server.state());
            for command in input.split(|&byte| byte == b'\n').take(20) {
                let said = conversation.command(command).await;
                let lines: Vec<&str> = said.lines().collect();
                assert!((1..=2).contains(&lines.len()), "{said}");
                for line in lines {
                    // A `ref` comes back as it was written, even one that serde has no value for.
                    let object: HashMap<&str, &RawValue> = serde_json::from_str(line).expect("a line of JSON");
                    assert!(object["type"].get().starts_with('"'), "{line}");
                }
            }
        });
    });
});
