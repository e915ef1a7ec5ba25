//! Follows the log for users that join or leave channels. If entries are missing, all members are compared with those
//! that consumers know.

use super::gathering::{Gathering, Origin};
use crate::cursor::Cursor;
use crate::hub::Hub;
use crate::log::presence::PresenceStore;
use crate::log::{Resolved, Unreachable};
use crate::message::{Channel, Kind, Message, User};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The wait before the members are compared. If the store has lost the members, the nodes report them again within this
/// time.
const SETTLE: Duration = Duration::from_secs(6);

/// How many entries one read returns at most, and how many channels one turn compares.
const PAGE: usize = 500;
const CHANNELS: usize = 200;

/// The mark in front of a position at which members are compared.
const COMPARING: char = '=';

/// The members of channels.
pub struct Members {
    hub: Arc<Hub>,
    store: Arc<dyn PresenceStore>,
    state: State,
    /// The entries that were read, oldest first, and how many of their transitions were not told yet.
    steps: VecDeque<Step>,
    next_step: u64,
    /// The position for the record.
    position: String,
}

enum State {
    /// Entries are missing.
    Gap { since: Instant },
    /// The members of all channels up to this name are compared.
    Comparing { at: Cursor, step: u64, after: String },
    /// The log is read up to this position.
    Following { read: Cursor },
}

struct Step {
    number: u64,
    left: usize,
    is_open: bool,
    cursor: Cursor,
}

impl Members {
    /// The members of the channels of a hub's log.
    pub fn new(hub: Arc<Hub>, store: Arc<dyn PresenceStore>) -> Members {
        let state = State::Gap { since: Instant::now() };
        Members { hub, store, state, steps: VecDeque::new(), next_step: 0, position: String::new() }
    }

    /// Goes on at the position of a record.
    pub fn go_on(&mut self, position: &str) {
        self.steps.clear();
        position.clone_into(&mut self.position);
        let (is_comparing, cursor) = match position.strip_prefix(COMPARING) {
            Some(cursor) => (true, cursor.parse()),
            None => (false, position.parse()),
        };
        self.state = match cursor {
            Ok(at) if is_comparing => self.comparing(at),
            Ok(read) => State::Following { read },
            Err(_) => State::Gap { since: Instant::now() },
        };
    }

    /// The position for the record: all transitions up to it were told.
    pub fn position(&self) -> &str {
        &self.position
    }

    /// Notes that a transition of a step was told.
    pub fn told(&mut self, step: u64) {
        if let Some(step) = self.steps.iter_mut().find(|it| it.number == step) {
            step.left -= 1;
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(step) = self.steps.front().filter(|step| step.left == 0 && !step.is_open) {
            self.position = step.cursor.to_string();
            self.steps.pop_front();
        }
    }

    /// Reads what is new, and adds what has changed.
    ///
    /// # Errors
    ///
    /// The log or the members are not available.
    pub async fn look(&mut self, gathering: &mut Gathering<'_>) -> Result<(), Unreachable> {
        if let State::Gap { since } = self.state {
            let may_begin = !gathering.told.has_members() || since.elapsed() >= SETTLE;
            let Some(at) = self.hub.head().filter(|_| may_begin && self.hub.is_ready()) else { return Ok(()) };
            gathering.metrics.comparisons.inc();
            self.steps.clear();
            self.position = format!("{COMPARING}{at}");
            self.state = self.comparing(at);
        }
        if let State::Comparing { at, step, after } = &self.state {
            let (at, step, after) = (*at, *step, after.clone());
            self.compare(at, step, &after, gathering).await?;
        }
        while let State::Following { read } = self.state
            && gathering.has_room()
            && self.hub.head().is_some_and(|head| head.epoch != read.epoch || head.id > read.id)
        {
            self.read(read, gathering).await?;
        }
        Ok(())
    }

    fn comparing(&mut self, at: Cursor) -> State {
        let step = self.step(at, 0, true);
        State::Comparing { at, step, after: String::new() }
    }

    fn step(&mut self, cursor: Cursor, left: usize, is_open: bool) -> u64 {
        self.next_step += 1;
        self.steps.push_back(Step { number: self.next_step, left, is_open, cursor });
        self.next_step
    }

    async fn compare(
        &mut self,
        at: Cursor,
        step: u64,
        after: &str,
        gathering: &mut Gathering<'_>,
    ) -> Result<(), Unreachable> {
        let present = self.store.channels(after, CHANNELS).await?;
        let upto = present.last().filter(|_| present.len() == CHANNELS).map(ToString::to_string);
        let (told, upto) = gathering.channels_with_members(after, upto.as_deref(), CHANNELS);
        let mut channels: BTreeSet<Channel> = told;
        channels.extend(present);
        for channel in &channels {
            if upto.as_deref().is_some_and(|upto| channel.as_str() > upto) {
                break;
            }
            if !gathering.has_room() {
                return Ok(());
            }
            let members = self.store.members(channel).await?.members;
            let present = members.iter().filter_map(|data| User::parse(data).ok()).map(|user| (user.id().into(), user));
            let present: BTreeMap<Box<str>, User> = present.collect();
            let origin = Origin { cursor: at, step, is_comparison: true };
            let mut count = 0;
            for user in gathering.members(channel).iter().filter(|user| !present.contains_key(user.id())) {
                count += gathering.member(channel, user, false, origin);
            }
            for user in present.values() {
                count += gathering.member(channel, user, true, origin);
            }
            if let Some(step) = self.steps.iter_mut().find(|it| it.number == step) {
                step.left += count;
            }
            self.state = State::Comparing { at, step, after: channel.to_string() };
        }
        if let Some(upto) = upto {
            self.state = State::Comparing { at, step, after: upto };
            return Ok(());
        }
        if let Some(step) = self.steps.iter_mut().find(|it| it.number == step) {
            step.is_open = false;
        }
        self.state = State::Following { read: at };
        self.settle();
        Ok(())
    }

    async fn read(&mut self, after: Cursor, gathering: &mut Gathering<'_>) -> Result<(), Unreachable> {
        let page = self.hub.log().read(after, PAGE).await?;
        let resolved = page.extent.resolve(after);
        if let Resolved::Gap(_) = resolved {
            self.state = State::Gap { since: Instant::now() };
            return Ok(());
        }
        for message in &page.messages {
            self.entry(message, gathering);
        }
        let read = Cursor { id: page.upto, epoch: page.extent.lineage.epoch };
        self.step(read, 0, false);
        self.settle();
        self.state = match resolved {
            // Later entries of the cursor's epoch are missing.
            Resolved::Until(_) => State::Gap { since: Instant::now() },
            _ => State::Following { read },
        };
        Ok(())
    }

    fn entry(&mut self, message: &Message, gathering: &mut Gathering<'_>) {
        let is_member = match message.kind() {
            Kind::MemberAdded => true,
            Kind::MemberRemoved => false,
            Kind::Message | Kind::Session => return,
        };
        let (Some(cursor), Ok(user)) = (message.cursor(), User::parse(message.payload())) else { return };
        let step = self.step(cursor, 0, true);
        let count =
            gathering.member(message.channel(), &user, is_member, Origin { cursor, step, is_comparison: false });
        if let Some(step) = self.steps.back_mut() {
            (step.left, step.is_open) = (count, false);
        }
    }
}
