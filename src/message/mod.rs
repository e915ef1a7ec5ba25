//! The parts of a publication: [`Channel`], [`Event`], [`ClientId`], [`Payload`], [`Draft`], and the [`Message`] with
//! its encoded frames.

pub mod encoding;

mod draft;
mod exclude;
mod extras;
mod frames;
#[expect(clippy::module_inception, reason = "the folder is named after its main type")]
mod message;
mod names;
mod pattern;
mod payload;
mod user;

pub use draft::{BadDraft, BadIdempotencyKey, CONTROL_BYTES, Draft, DraftFields, IdempotencyKey};
pub use encoding::Encoding;
pub use exclude::{client_name, except_names, present, warn_ignored_exclude};
pub use extras::{BadChannels, Channels, ExceptItem, Extras, Kind, MAX_ATTACHMENTS, MAX_EXCEPT};
pub use message::Message;
pub use names::{BadChannel, BadClient, BadEvent, Channel, ClientId, Event, escape, unescape};
pub use pattern::{Pattern, unmatched};
pub use payload::Payload;
pub use user::{BadUser, User};
