//! The truth, as plain lists: the entries that each server's stream has held, and the messages and gaps that a reader
//! must receive.

use crate::cursor::{Cursor, Epoch, Id};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Identifies an entry: no two entries of a history have the same token.
pub(super) type Token = u32;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) token: Token,
    /// Whether the entry is a message. Any client of Redis may append an entry that is not a message. Readers neither
    /// get nor miss such an entry.
    pub(super) is_message: bool,
    /// Whether the entry was trimmed or deleted.
    pub(super) is_gone: bool,
}

/// A stream: one branch of the history.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) exists: bool,
    /// All entries that were ever added, in their order.
    pub(super) entries: Vec<Entry>,
    pub(super) last: Id,
    /// The present epoch, and the reign to which it belongs.
    pub(super) epoch: Option<(Epoch, u64)>,
    /// The position up to which all entries are proven to be of the present epoch and its reign.
    pub(super) mark: Id,
    /// All epochs that the stream has had.
    pub(super) known: Vec<Epoch>,
    /// For each earlier epoch, the position up to which a node could prove that the stream holds all of its entries.
    pub(super) proven: HashMap<Epoch, Id>,
    /// The entries that nodes had read before they opened this stream. If the stream does not hold some of these
    /// entries, they were provably lost.
    pub(super) told: BTreeSet<Token>,
    /// Whether programs other than nodes have trimmed or deleted entries.
    pub(super) is_foreign: bool,
    /// The entries that other programs have deleted one by one. Redis reports only the newest of them.
    pub(super) deleted: BTreeSet<Id>,
    /// Epochs that were ended by a node that remembers fewer entries than the comparison needs.
    unproven: HashSet<Epoch>,
    /// A position in the present epoch. The last node that opened the stream has found all entries that it had read up
    /// to this position.
    compared: Id,
    is_doubtful: bool,
}

/// The entries that a node has read in one epoch, according to the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The entries of the node's branch of the history, up to its position.
    pub(super) branch: Vec<Entry>,
    /// The messages that the node received.
    pub(super) read: BTreeSet<Token>,
}

impl Stream {
    pub(super) fn add(&mut self, id: Id, token: Token, is_message: bool) {
        self.exists = true;
        self.last = id;
        self.entries.push(Entry { id, token, is_message, is_gone: false });
    }

    pub(super) fn upto(&self, id: Id) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.id <= id)
    }

    pub(super) fn live(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_gone)
    }

    pub(super) fn holds(&self, token: Token) -> bool {
        self.entries.iter().any(|entry| entry.token == token)
    }

    /// Keeps the newest `kept` entries. Returns whether an entry was dropped.
    pub(super) fn trim(&mut self, kept: usize) -> bool {
        let over = self.live().count().saturating_sub(kept);
        let live = self.entries.iter_mut().filter(|entry| !entry.is_gone);
        live.take(over).for_each(|entry| entry.is_gone = true);
        over > 0
    }

    pub(super) fn delete(&mut self, id: Id) {
        let found = self.entries.iter_mut().filter(|entry| entry.id == id);
        found.for_each(|entry| entry.is_gone = true);
        self.deleted.insert(id);
        self.is_foreign = true;
    }

    /// A node opens the stream for the first time.
    pub(super) fn opened_by_a_stranger(&mut self) {
        (self.compared, self.is_doubtful) = (Id::ZERO, false);
    }

    /// A node opens the stream. It has read this epoch up to `at`, and remembers it from `from` on. `floor`: the log's
    /// floor.
    pub(super) fn opened_by(&mut self, floor: Id, (epoch, from, at): (Epoch, Id, Id), memory: &Memory) {
        if !self.known.contains(&epoch) {
            // The node cannot use its memory: the stream has never had this epoch.
            return;
        }
        self.told.extend(&memory.read);
        let start = self.proven.get(&epoch).copied().unwrap_or(self.mark).max(floor);
        if start < from {
            // Entries that the node does not remember prove nothing, and the node has read more than it remembers.
            if at > start {
                self.unproven.insert(epoch);
            }
            return;
        }
        let newest = self.deleted.last().copied();
        // A node cannot distinguish an older deleted entry from an entry that was never in this stream.
        let is_told = |id: Id| id <= floor || newest == Some(id) || !self.deleted.contains(&id);
        let pairs = self.entries.iter().zip(&memory.branch);
        let same = pairs.take_while(|(ours, its)| ours.token == its.token && is_told(ours.id)).count();
        let is_whole = same == memory.branch.len() && self.entries.get(same).is_none_or(|next| next.id > at);
        let common =
            if is_whole { at.min(self.last) } else { same.checked_sub(1).map_or(Id::ZERO, |i| self.entries[i].id) };
        // The log does not contain the last entry that the node has read, so the node does not trust a mark with a later
        // position.
        let is_doubtful = memory.branch.last().is_some_and(|last| !is_told(last.id));
        match self.epoch {
            // The result of the comparison counts if the epoch ends here.
            Some((present, _)) if present == epoch => (self.compared, self.is_doubtful) = (common, is_doubtful),
            _ if is_doubtful => drop(self.proven.insert(epoch, common)),
            _ => self.prove(epoch, common),
        }
    }

    pub(super) fn mark_upto(&mut self, id: Id) {
        self.mark = self.mark.max(id);
    }

    fn prove(&mut self, epoch: Epoch, upto: Id) {
        let proven = self.proven.entry(epoch).or_default();
        *proven = upto.max(*proven);
    }

    /// Another epoch has begun.
    pub(super) fn begin(&mut self, epoch: Epoch, reign: u64) {
        if let Some((before, of)) = self.epoch.replace((epoch, reign)) {
            // In the same reign, an epoch ends if a node does not find the entries that it has read. The mark does not
            // prove anything then.
            let proven = if of == reign || self.is_doubtful { self.compared } else { self.mark.max(self.compared) };
            // Entries of earlier epochs were already here when this epoch began.
            let proven = self.known.iter().filter_map(|epoch| self.proven.get(epoch).copied()).fold(proven, Id::max);
            self.proven.insert(before, proven);
        }
        self.exists = true;
        self.known.push(epoch);
        self.mark = self.last;
    }
}

/// A cursor that a client was given, the entries that a reader at this cursor has seen, and the entries that the reader
/// knows to be missing.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cursor: Cursor,
    pub(super) seen: BTreeSet<Token>,
    pub(super) from: String,
}

/// The messages and the gap that a reader with a cursor received.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) messages: Vec<Token>,
    pub(super) is_gap: bool,
    /// The log's floor.
    pub(super) floor: Id,
}

/// Compares the reader's messages and gap with the present log. `epochs`: all entries that were ever written in each
/// epoch, on any server.
///
/// It accepts only the following faults, which no node can detect:
/// - Entries were lost together with a server. Either no node that has opened the surviving log had read them, or a
///   node had read them in an epoch that began on the lost side, and that the surviving log has never had.
/// - A gap is reported although no entry is missing, if the cursor
///   - belongs to an epoch that the log has never had, or that sixteen newer epochs have replaced;
///   - comes after the last position that can be proven, either by the mark or by a node that remembers the epoch and
///     has opened the log. For example, all nodes lost power before the mark reached the cursor;
///   - belongs to an epoch that a node has ended, if this node met a hole, or began to read, at a position after the
///     mark and the log's floor. The node has read entries that it does not remember, and cannot tell whether the log
///     is the same;
///   - is between two entries: the last entry that other programs have trimmed or deleted at the log's front, and the
///     first remaining entry. Redis reports only the second one;
///   - belongs to an epoch that has two branches, because an older copy was put back into a running server. One cursor
///     may belong to either branch, and the gap may lead a reader to the entries of the other branch;
///   - comes after an entry that other programs have deleted, if they have then deleted a later entry: Redis reports
///     only the newest deletion. A node that has read the first entry, and does not find it, treats it as lost.
/// - Any fault at a node that continued to read after an older copy was put back into a running server. This applies
///   only if other programs have since then added and trimmed exactly as many entries as the server has lost. The
///   counts then look right although entries are missing.
pub(super) fn judge(
    place: &Place,
    told: &Told,
    log: &Stream,
    epochs: &HashMap<Epoch, Vec<Entry>>,
) -> Result<(), String> {
    let Cursor { id, epoch } = place.cursor;
    let delivered: BTreeSet<Token> = told.messages.iter().copied().collect();
    let unseen = |entry: &&Entry| !place.seen.contains(&entry.token);
    let tokens =
        |entries: Vec<&Entry>| entries.iter().map(|entry| format!("{}@{}", entry.token, entry.id)).collect::<Vec<_>>();

    if delivered.len() < told.messages.len() {
        return Err("a message was delivered twice".into());
    }
    let branch = epochs.get(&epoch).map_or(&[][..], |entries| entries);
    let lost: Vec<_> = branch.iter().filter(|entry| !log.holds(entry.token)).collect();
    let is_other_branch = branch.iter().any(|entry| entry.id <= id && log.holds(entry.token) && unseen(&entry))
        && lost.iter().any(|entry| !unseen(entry));
    let skipped: Vec<_> =
        log.live().filter(|entry| entry.is_message && !delivered.contains(&entry.token)).filter(unseen).collect();
    let is_led_astray = told.is_gap && is_other_branch;
    if !skipped.is_empty() && !is_led_astray {
        return Err(format!("SILENT LOSS: messages of the log were not delivered: {:?}", tokens(skipped)));
    }
    let gone: Vec<_> = log.entries.iter().filter(|entry| entry.is_gone).filter(unseen).collect();
    if !told.is_gap {
        let lost =
            lost.into_iter().filter(|entry| entry.id > id && entry.is_message && log.told.contains(&entry.token));
        let missing: Vec<_> = lost.chain(gone.into_iter().filter(|entry| entry.is_message)).filter(unseen).collect();
        if !missing.is_empty() {
            return Err(format!("SILENT LOSS: messages are gone and no gap was reported: {:?}", tokens(missing)));
        }
        let doubled: Vec<_> = delivered.intersection(&place.seen).collect();
        if !doubled.is_empty() {
            return Err(format!("DOUBLED: messages were delivered twice and no gap was reported: {doubled:?}"));
        }
        return Ok(());
    }
    // The reader has seen the lost entries of its epoch, or it misses them, or the epoch has two branches.
    let is_due = !lost.is_empty() || !gone.is_empty() || place.seen.iter().any(|token| !log.holds(*token));
    let present = log.epoch.is_some_and(|(present, _)| present == epoch);
    let is_excused = !log.known.contains(&epoch)
        || log.known.len() > 16
        || log.unproven.contains(&epoch)
        || (log.is_foreign && id < told.floor)
        || (!present && log.proven.get(&epoch).is_none_or(|proven| id > *proven));
    if is_due || is_excused { Ok(()) } else { Err("NEEDLESS GAP".into()) }
}
