//! Client sessions: what the server and the application know about a client, on every node.
//!
//! A session is a fold over the log. [`state`] has the state and the rule by which an entry changes it. The record of a
//! session holds a bookmark: the state at a position. Any node finds the present state by reading the control entries
//! after the bookmark. Sessions of open streams are in memory, too ([`live`]), and apply entries as they come.

pub mod address;
pub mod bookmark;
pub mod bookmark_store;
pub mod catch_up;
mod census;
pub mod change;
pub mod compact;
pub mod id;
pub mod live;
pub mod loss;
mod merge;
pub mod metrics;
mod networks;
pub mod protocol;
mod record_store;
pub mod registry;
mod seal_ring;
pub mod sealed_store;
pub mod state;
pub mod token;
pub mod upkeep;
