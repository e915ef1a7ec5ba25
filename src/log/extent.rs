//! The extent of a log (its bounds), and the gap rule: how a log resolves a cursor.

use crate::cursor::{Cursor, Epoch, Id};

/// The epochs of a log: the present epoch, and the earlier epochs whose cursors are still valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The present epoch.
    pub epoch: Epoch,
    /// Earlier epochs of the same log, in any order.
    pub ancestors: Vec<Ancestor>,
}

/// An earlier epoch of a log. Cursors up to its last position stay valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The epoch.
    pub epoch: Epoch,
    /// The last position of the epoch that is proven to be in the log.
    pub last: Id,
    /// Whether a node has read later entries of the epoch, which were lost (for example, in a failover).
    pub is_cut: bool,
}

/// The relation of a cursor to a [`Lineage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The cursor's position and all entries after it belong to the present epoch.
    Same(Id),
    /// All entries between the cursor's position and this one are in the log. Later entries of the epoch were lost.
    Until(Id),
    /// The cursor comes after this position, which is the end of its epoch. So the cursor's reader has read entries
    /// that were lost.
    Beyond(Id),
    /// The log does not know the epoch.
    Unknown,
}

impl Lineage {
    /// Finds a cursor's position in the present epoch.
    pub fn locate(&self, cursor: Cursor) -> Descent {
        if cursor.epoch == self.epoch {
            return Descent::Same(cursor.id);
        }
        match self.ancestors.iter().find(|ancestor| ancestor.epoch == cursor.epoch) {
            Some(ancestor) if cursor.id > ancestor.last => Descent::Beyond(ancestor.last),
            // At the cut and after it, readers get a gap and continue in the present epoch.
            Some(ancestor) if ancestor.is_cut && cursor.id == ancestor.last => Descent::Beyond(ancestor.last),
            Some(ancestor) if ancestor.is_cut => Descent::Until(ancestor.last),
            Some(_) => Descent::Same(cursor.id),
            None => Descent::Unknown,
        }
    }

    /// The position in the present epoch up to which the log has the entries before the cursor. Positions of cursors
    /// of different epochs can be compared.
    pub fn place(&self, cursor: Cursor) -> Option<Id> {
        match self.locate(cursor) {
            Descent::Same(id) | Descent::Beyond(id) => Some(id),
            Descent::Until(_) => Some(cursor.id),
            Descent::Unknown => None,
        }
    }

    /// Resolves a cursor by the gap rule for earlier epochs, for a log with this floor. For a cursor of the present
    /// epoch it only finds the position, and the log's bounds decide then. `None` if the log does not know the epoch.
    pub fn resolve(&self, cursor: Cursor, floor: Id) -> Option<Resolved> {
        match self.locate(cursor) {
            Descent::Same(id) => Some(Resolved::At(id)),
            Descent::Until(_) if cursor.id < floor => Some(Resolved::Gap(floor)),
            Descent::Until(last) => Some(Resolved::Until(last)),
            Descent::Beyond(last) => Some(Resolved::Gap(last.max(floor))),
            Descent::Unknown => None,
        }
    }
}

/// The beginning and the end of a log, and the epochs whose cursors are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its epochs.
    pub lineage: Lineage,
    /// The position up to which entries may have been dropped. All later entries are in the log, except single entries
    /// up to `deleted`, which may be missing.
    pub floor: Id,
    /// The newest entry that was deleted from the middle of the log, if it comes after the floor; otherwise the floor.
    /// It is not known which other entries between the floor and this position were deleted.
    pub deleted: Id,
    /// The position up to which control entries may have been dropped. It is below the floor if the log keeps control
    /// entries apart from messages. Only sessions need them.
    pub control_floor: Id,
    /// The last id that the log has assigned.
    pub end: Id,
    /// The log's clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// The result of resolving a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// All entries after this position are in the log.
    At(Id),
    /// All entries after the cursor and up to this position are in the log. A gap follows.
    Until(Id),
    /// Entries after the cursor may have been dropped before the reader saw them. Reading continues at this position.
    /// It may be the cursor's own position: then the log has entries after it, but others between them may be missing.
    Gap(Id),
}

impl Extent {
    /// Resolves a cursor by the whole gap rule. The rule is exact: a cursor is too old only if entries after it were
    /// dropped, not because of its age.
    pub fn resolve(&self, cursor: Cursor) -> Resolved {
        match self.lineage.resolve(cursor, self.floor) {
            None => Resolved::Gap(self.floor),
            Some(Resolved::At(id)) if id < self.floor => Resolved::Gap(self.floor),
            Some(Resolved::At(id)) if id > self.end => Resolved::Gap(self.end),
            Some(Resolved::At(id)) if id < self.deleted => Resolved::Gap(id),
            Some(resolved) => resolved,
        }
    }
}
