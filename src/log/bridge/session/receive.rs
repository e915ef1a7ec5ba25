//! How a session handles the messages that it receives.

use super::state::{Ended, Session};
use crate::log::bridge::config::{BridgeConfig, ForeignPublishes};
use crate::log::bridge::member::Marker;
use crate::log::bridge::queue::PublishSlot;
use crate::log::publish_payload;
use crate::log::redis::{draft_fields, volatile_from_json};
use crate::message::{Draft, Pattern, warn_ignored_exclude};
use tokio::time::Instant;
use tracing::warn;

impl Session {
    pub(super) fn receive(&mut self, received: &redis::Msg, config: &BridgeConfig) -> Result<(), Ended> {
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
        let (shown, drafts) = if let Some(channel) = config.patterns.iter().find_map(|pattern| pattern.channel(name)) {
            let draft = publish_payload::draft(channel, payload, self.log.config().max_payload);
            (name, draft.map(|draft| vec![draft]).map_err(str::to_owned))
        } else if let Some((foreign, pattern)) = foreign(config, name) {
            // The name of a room may be the id of a connection, which is a secret. So the log line has the pattern.
            (pattern.prefix(), (foreign.read)(name, payload))
        } else {
            return Ok(());
        };
        let place = match drafts.and_then(|drafts| self.writable(drafts)) {
            Err(reason) => {
                self.refuse(shown, &reason);
                PublishSlot::Nothing(1)
            }
            Ok(drafts) => self.place(drafts),
        };
        let lost = self.member.receive(place, Instant::now());
        self.note_lost(lost);
        Ok(())
    }

    /// Checks that every node reads the entries of these drafts.
    fn writable(&self, drafts: Vec<Draft>) -> Result<Vec<Draft>, String> {
        if drafts.iter().all(|draft| draft.volatile || self.log.may_write(draft)) {
            return Ok(drafts);
        }
        Err("a node of an older version does not read messages with args, channels or except".to_owned())
    }

    /// Delivers the volatile drafts of a PUBLISH, and returns a slot with the entries of the others.
    fn place(&self, drafts: Vec<Draft>) -> PublishSlot {
        if drafts.iter().any(|draft| draft.ignored_exclude) {
            warn_ignored_exclude(&self.log.metrics().ignored_excludes, "PUBLISH");
        }
        // Each node delivers a volatile message to its own readers, so the message does not wait for the log.
        let (volatile, kept): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.volatile);
        volatile.into_iter().for_each(|draft| self.log.deliver_volatile(draft.into_message(None)));
        let entry = |draft: &Draft| {
            let key = draft.scoped_key().map(|key| self.log.keys().idempotency(&key));
            let mut words = vec![key.unwrap_or_default()];
            words.extend(draft_fields(draft));
            words
        };
        match kept.as_slice() {
            [] => PublishSlot::Nothing(1),
            kept => PublishSlot::Entries(kept.iter().map(entry).collect()),
        }
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

    pub(super) fn refuse(&self, name: &str, reason: &str) {
        let refused = self.log.metrics().refused.inc() + 1;
        if refused.is_power_of_two() || refused <= 16 {
            let name: String = name.chars().take(200).collect();
            warn!(channel = ?name, reason, refused, "a PUBLISH is not a message");
        }
    }
}

/// The PUBLISHes of another program that a name belongs to.
fn foreign<'a>(config: &'a BridgeConfig, name: &str) -> Option<(&'a ForeignPublishes, &'a Pattern)> {
    let foreign = config.foreign.as_ref()?;
    foreign.patterns.iter().find(|pattern| pattern.matched(name).is_some()).map(|pattern| (foreign, pattern))
}
