//! How a session handles the messages that it receives.

use super::state::{Ended, Session};
use crate::log::bridge::member::Marker;
use crate::log::bridge::queue::PublishSlot;
use crate::log::publish_payload;
use crate::log::redis::{draft_fields, volatile_from_json};
use crate::message::{Pattern, warn_ignored_exclude};
use tokio::time::Instant;
use tracing::warn;

impl Session {
    pub(super) fn receive(&mut self, received: &redis::Msg, patterns: &[Pattern]) -> Result<(), Ended> {
        let (name, payload) = (received.get_channel_name(), received.get_payload_bytes());
        let keys = self.log.keys();
        if name.starts_with(&keys.beside("")) {
            // A wide pattern also matches our own channels, and each of their messages then arrives twice.
            if received.from_pattern() {
                return Ok(());
            }
            if name == keys.volatile() {
                match volatile_from_json(payload, self.log.config().max_payload) {
                    Some(message) => self.log.deliver_volatile(message),
                    None => self.refuse(name, "it is not a message of another node"),
                }
                return Ok(());
            }
            match std::str::from_utf8(payload).ok().and_then(Marker::parse) {
                Some(marker) => {
                    let (server, is_cluster) = (&self.server.run_id, self.server.is_cluster);
                    let lost = self.member.receive_marker(marker, server, is_cluster, Instant::now())?;
                    self.note_lost(lost);
                }
                None => self.refuse(name, "it is not a marker"),
            }
            return Ok(());
        }
        let Some(channel) = patterns.iter().find_map(|pattern| pattern.matched(name)) else { return Ok(()) };
        let draft =
            publish_payload::draft(channel.parse(), payload, self.log.config().max_payload).and_then(
                |draft| match draft.volatile || self.log.may_write(&draft) {
                    true => Ok(draft),
                    false => Err("a node of an older version does not read messages with args, channels or except"),
                },
            );
        if draft.as_ref().is_ok_and(|draft| draft.ignored_exclude) {
            warn_ignored_exclude(&self.log.metrics().ignored_excludes, "PUBLISH");
        }
        let place = match draft {
            Err(reason) => {
                self.refuse(name, reason);
                PublishSlot::Nothing(1)
            }
            Ok(draft) if draft.volatile => {
                // Each node delivers a volatile message to its own readers, so the message does not wait for the log.
                self.log.deliver_volatile(draft.into_message(None));
                PublishSlot::Nothing(1)
            }
            Ok(draft) => {
                let key = draft.scoped_key().map(|key| keys.idempotency(&key));
                let mut words = vec![key.unwrap_or_default()];
                words.extend(draft_fields(&draft));
                PublishSlot::Entry(words)
            }
        };
        let lost = self.member.receive(place, Instant::now());
        self.note_lost(lost);
        Ok(())
    }

    pub(super) fn note_lost(&self, lost: usize) {
        if lost > 0 {
            let before = self.log.metrics().overflowed.inc_by(lost as u64);
            let all = before + lost as u64;
            // The loss is logged only when its count passes a power of two, because an overflow comes with a flood of
            // messages.
            if before.leading_zeros() != all.leading_zeros() {
                warn!(lost = all, "too many PUBLISHes wait for the log, so the oldest are lost");
            }
        }
    }

    pub(super) fn refuse(&self, name: &str, reason: &'static str) {
        let refused = self.log.metrics().refused.inc() + 1;
        if refused.is_power_of_two() || refused <= 16 {
            let name: String = name.chars().take(200).collect();
            warn!(channel = ?name, reason, refused, "a PUBLISH is not a message");
        }
    }
}
