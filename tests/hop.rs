//! A reader that hops at random over all transports and over two nodes sees exactly the log.

use crate::support;

use support::world::start_on;
use support::{Kind, Node, Reader, RedisServer, Subscription, within};

const MESSAGES: usize = 10_000;
const CHANNELS: usize = 5;

/// A small random number generator whose seed is printed when the test fails.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        eprintln!("seed {seed}");
        Random(seed | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// Publishes in bursts of random size to random channels, over both nodes.
async fn publish(nodes: &[Node; 2], mut random: Random, count: usize) {
    let mut left = count;
    while left > 0 {
        let burst = (1 + random.below(20)).min(left);
        left -= burst;
        let list: Vec<_> =
            (0..burst).map(|_| (format!("c{}", random.below(CHANNELS)), random.below(1_000_000).to_string())).collect();
        nodes[random.below(2)].publish_list(&list).await;
    }
}

/// Reads these channels to the message `"end"`, a little on each transport. Returns ids and payloads.
async fn hop(nodes: &[Node; 2], channels: &[&str], start: &str, mut random: Random) -> (Vec<(String, String)>, usize) {
    let transports = nodes[0].transports().await;
    let (mut seen, mut cursor, mut hops) = (Vec::new(), start.to_owned(), 0);
    loop {
        let transport = &transports[random.below(transports.len())];
        let mut subscription = Subscription::to(channels).from(&cursor).with("timeout", "1");
        if transport.rollover && random.below(2) == 0 {
            subscription = subscription.with("max_bytes", "4096");
        }
        let mut reader = Reader::open(&nodes[random.below(2)], transport, subscription).await;
        hops += 1;
        for _ in 0..random.below(60) {
            let Some(item) = reader.next().await else { break };
            match item.kind {
                Kind::Message => {
                    seen.push((item.id().expect("an id"), item.data().to_owned()));
                    if item.data() == "\"end\"" {
                        return (seen, hops);
                    }
                }
                Kind::Hello | Kind::Heartbeat | Kind::Batch => {}
                Kind::Bye => assert_eq!(item.number("code"), Some(4000), "{}", item.text),
                _ => panic!("{} said {item:?}", transport.name),
            }
        }
        cursor = reader.cursor();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hopping_reader_sees_exactly_the_log() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let start = nodes[0].latest("c0").await;
    let all: Vec<String> = (0..CHANNELS).map(|n| format!("c{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let some = ["c0", "c3"];

    let flow = async {
        futures_util::future::join(
            publish(&nodes, Random::new(), MESSAGES / 2),
            publish(&nodes, Random::new(), MESSAGES / 2),
        )
        .await;
        nodes[1].publish("c0", "\"end\"").await;
    };
    let readers = futures_util::future::join4(
        hop(&nodes, &all, &start, Random::new()),
        hop(&nodes, &all, &start, Random::new()),
        hop(&nodes, &all, &start, Random::new()),
        hop(&nodes, &some, &start, Random::new()),
    );
    let ((), readers) =
        within(support::LONG, "the flow and its readers", futures_util::future::join(flow, readers)).await;

    // The log itself, as Redis has it.
    let entries = redis.command(&["XRANGE", "longtail:log", "-", "+"]).await;
    let entries: Vec<(String, Vec<String>)> = redis::from_redis_value(entries).expect("entries");
    let log: Vec<(String, String, String)> = entries
        .into_iter()
        .filter_map(|(id, fields)| {
            let field = |name: &str| {
                let at = fields.iter().step_by(2).position(|field| field == name)?;
                fields.get(at * 2 + 1).cloned()
            };
            Some((id, field("channel")?, field("data")?))
        })
        .collect();
    assert_eq!(log.len(), MESSAGES + 1);
    for ((seen, hops), channels) in
        [readers.0, readers.1, readers.2, readers.3].iter().zip([&all[..], &all, &all, &some])
    {
        assert!(*hops > 50, "{hops} hops");
        let expected: Vec<_> = log.iter().filter(|(_, channel, _)| channels.contains(&channel.as_str())).collect();
        assert_eq!(seen.len(), expected.len(), "lost or doubled");
        for (index, ((id, data), (entry, _, payload))) in seen.iter().zip(expected).enumerate() {
            let position = id.split('.').next();
            assert_eq!((position, data), (Some(entry.as_str()), payload), "message {index}");
        }
    }
}
