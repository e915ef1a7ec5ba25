//! The arguments and the reply of `lua/bridge.lua`.

use super::member::{BridgeState, Request, Want};
use super::queue::PublishSlot;
use crate::log::idempotency::KEY_LIFE;
use crate::log::publish_payload::PUBLISHER;
use crate::log::redis::{RedisConfig, text};
use redis::Value;

/// The server that a session is subscribed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    /// The id of its process.
    pub(super) run_id: String,
    pub(super) address: String,
    pub(super) is_cluster: bool,
    /// In a Cluster: the server to which members listened before, and which has ended.
    pub(super) instead_of: String,
}

/// The script's arguments, as the head of `lua/bridge.lua` lists them.
pub(super) fn args(
    config: &RedisConfig,
    member: &str,
    markers: &str,
    server: &Server,
    request: &Request,
) -> Vec<String> {
    let flag = |is_set: bool| if is_set { "1".to_owned() } else { String::new() };
    let want = match request.want {
        Want::Look => "look",
        Want::Join => "join",
        Want::Take => "take",
        Want::Release => "release",
        Want::Finish => "finish",
    };
    let mut args = vec![
        // The candidate for the log's epoch. The value is filled in when there is a connection.
        String::new(),
        member.to_owned(),
        want.to_owned(),
        request.holder.clone(),
        request.beat.clone(),
        markers.to_owned(),
        uuid::Uuid::new_v4().simple().to_string(),
        server.run_id.clone(),
        server.address.clone(),
        flag(server.is_cluster),
        server.instead_of.clone(),
        config.retention.messages.to_string(),
        config.retention.age.as_millis().to_string(),
        KEY_LIFE.as_millis().to_string(),
        config.key_bytes.to_string(),
        PUBLISHER.to_owned(),
    ];
    for offer in &request.offers {
        args.extend([offer.segment.clone(), offer.first.to_string(), flag(offer.over_hole)]);
        let items = offer.places.iter().map(|place| match place {
            PublishSlot::Nothing(_) => 1,
            PublishSlot::Entries(entries) => entries.len(),
        });
        args.push(items.sum::<usize>().to_string());
        for place in &offer.places {
            match place {
                PublishSlot::Nothing(run) => args.extend(["0".to_owned(), run.to_string()]),
                PublishSlot::Entries(entries) => {
                    for (index, words) in entries.iter().enumerate() {
                        let sign = if index + 1 < entries.len() { "-" } else { "" };
                        args.push(format!("{sign}{}", words.len()));
                        args.extend_from_slice(words);
                    }
                }
            }
        }
    }
    args
}

/// Parses the script's reply.
pub(super) fn state(reply: &Value) -> Option<BridgeState> {
    let Value::Array(reply) = reply else { return None };
    let words: Vec<&str> = reply.iter().map(text).collect::<Option<_>>()?;
    let [holder, beat, server, address, alive, added, forgotten, taken @ ..] = words.as_slice() else { return None };
    let taken = taken.iter().map(|taken| if *taken == "-" { Ok(None) } else { taken.parse().map(Some) });
    Some(BridgeState {
        holder: (*holder).to_owned(),
        beat: (*beat).to_owned(),
        server: (*server).to_owned(),
        address: (*address).to_owned(),
        alive: (*alive).to_owned(),
        added: added.parse().ok()?,
        forgotten: forgotten.parse().ok()?,
        taken: taken.collect::<Result<_, _>>().ok()?,
    })
}
