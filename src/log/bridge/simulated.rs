//! A model of the script for the simulation.

use super::member::{BridgeState, Request, Want};
use super::queue::PublishSlot;
use std::collections::HashMap;

/// A model of `lua/bridge.lua` whose log holds numbers in place of messages.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) holder: String,
    pub(super) beat: u64,
    /// The server at which members joined most recently.
    pub(super) server: Option<usize>,
    pub(super) joined: u64,
    pub(super) dropped: u64,
    /// How many segments the script keeps.
    pub(super) kept: u64,
    pub(super) taken: HashMap<String, i64>,
    pub(super) log: Vec<u64>,
}

impl Script {
    pub(super) fn new() -> Script {
        Script {
            holder: String::new(),
            beat: 0,
            server: None,
            joined: 0,
            dropped: 0,
            kept: 256,
            taken: HashMap::new(),
            log: Vec::new(),
        }
    }

    /// Returns the state, and a marker to publish.
    pub(super) fn run(
        &mut self,
        member: &str,
        (server, has_replica): (usize, bool),
        random: u64,
        request: &Request,
    ) -> (BridgeState, Option<String>) {
        let is_as_seen = self.holder == request.holder && self.beat.to_string() == request.beat;
        let mut marker = None;
        match request.want {
            Want::Join => {
                let is_first = self.server.is_some_and(|before| before != server) && !has_replica;
                self.server = Some(server);
                self.joined += 1;
                let segment = format!("{}-{random}", self.joined);
                self.taken.insert(segment.clone(), 0);
                if self.taken.len() as u64 > self.kept {
                    self.dropped = self.joined.saturating_sub(self.kept);
                    let dropped = self.dropped;
                    self.taken.retain(|segment, _| place_of(segment) > dropped);
                }
                if self.holder.is_empty() {
                    self.holder = member.into();
                }
                marker = Some(format!("{segment} s{server}{}", if is_first { " first" } else { "" }));
            }
            Want::Take if is_as_seen => self.holder = member.into(),
            Want::Release if self.holder == member => self.holder.clear(),
            _ => {}
        }
        let (mut added, mut has_taken, mut answer) = (0, false, Vec::new());
        for offer in &request.offers {
            let known = self.taken.get(&offer.segment).copied();
            if known.is_none() && place_of(&offer.segment) <= self.dropped {
                answer.push(None);
                continue;
            }
            let before = known.unwrap_or(0);
            let (mut taken, mut number) = (before, offer.first);
            if offer.over_hole && !offer.places.is_empty() {
                taken = taken.max(number - 1);
            }
            if number <= taken + 1 {
                for place in &offer.places {
                    let last = number + place.count() as i64 - 1;
                    if let (PublishSlot::Entries(entries), true) = (place, number > taken) {
                        self.log.push(entries[0][1].parse().expect("a number"));
                        added += 1;
                    }
                    taken = taken.max(last);
                    number = last + 1;
                }
            }
            if taken > before {
                self.taken.insert(offer.segment.clone(), taken);
                has_taken = true;
            }
            answer.push(Some(taken));
        }
        if has_taken && matches!(request.want, Want::Look | Want::Join | Want::Take) {
            self.holder = member.into();
        }
        if self.holder == member {
            self.beat += 1;
        }
        let (holder, beat) = (self.holder.clone(), self.beat.to_string());
        (BridgeState { holder, beat, added, taken: answer, ..BridgeState::default() }, marker)
    }
}

fn place_of(segment: &str) -> u64 {
    segment.split_once('-').expect("a segment").0.parse().expect("a number")
}
