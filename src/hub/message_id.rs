//! The id of a message in the log.

use crate::cursor::Id;
use crate::message::Message;

/// Returns the id of a message that is in the log.
pub(super) fn id_of(message: &Message) -> Id {
    message.cursor().map_or(Id::ZERO, |cursor| cursor.id)
}
