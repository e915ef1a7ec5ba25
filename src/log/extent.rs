//! The extent of a log: where it begins and ends. And the gap rule: what a cursor means to the log.

use crate::cursor::{Cursor, Epoch, Id};

/// The epochs of a log: the present one, and the earlier ones whose cursors it honours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The present epoch.
    pub epoch: Epoch,
    /// Earlier epochs of the same log, in no order.
    pub ancestors: Vec<Ancestor>,
}

/// An earlier epoch of a log. Cursors up to its last position stay good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The epoch.
    pub epoch: Epoch,
    /// Its last position that is proven to be in the log.
    pub last: Id,
    /// Whether a node has read more of the epoch: that was lost, for example in a failover.
    pub is_cut: bool,
}

/// Where a cursor's epoch stands in a [`Lineage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The cursor's position is one of the present epoch, and so is what follows it.
    Same(Id),
    /// Everything between the cursor's position and this one is there. Later entries of the epoch were lost.
    Until(Id),
    /// The cursor lies after the end of its epoch, which is this position: its reader has read what was lost.
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
            // At the cut and after it, readers go on in the present epoch, and are told of a gap.
            Some(ancestor) if ancestor.is_cut && cursor.id == ancestor.last => Descent::Beyond(ancestor.last),
            Some(ancestor) if ancestor.is_cut => Descent::Until(ancestor.last),
            Some(_) => Descent::Same(cursor.id),
            None => Descent::Unknown,
        }
    }

    /// The gap rule for earlier epochs: what a cursor means to a log with this floor. A cursor of the present epoch is only
    /// located; the log's own bounds decide then. `None` if the log does not know the epoch.
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

/// Where a log begins and ends, and which epochs' cursors it honours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its epochs.
    pub lineage: Lineage,
    /// Entries up to here may have been dropped. All later ones are there, except single ones up to `deleted`.
    pub floor: Id,
    /// The newest entry that somebody deleted from the middle of the log, if it lies after the floor, else the floor.
    /// Which other entries between the floor and here were deleted is not known.
    pub deleted: Id,
    /// The last id given.
    pub end: Id,
    /// The log's clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// What a cursor means to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// All that comes after this position is in the log.
    At(Id),
    /// All that comes after the position and up to this one is in the log. After that there is a gap.
    Until(Id),
    /// Something after the cursor may have been dropped unseen. Reading goes on here. That may be the cursor's own
    /// position: then there are entries after it, and others between them may be missing.
    Gap(Id),
}

impl Extent {
    /// The whole gap rule: what a cursor means to the log. It is exact: a cursor is not too old by its age, only
    /// because something after it was dropped.
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
