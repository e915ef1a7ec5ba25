//! Client sessions: what the server and the application know about a client, on every node.
//!
//! A session is a fold over the log. [`state`] has the state and the rule by which an entry changes it. The record of a
//! session holds a bookmark: the state at a position. Any node finds the present state by reading the control entries
//! after the bookmark. Sessions of open streams are in memory, too ([`live`]), and apply entries as they come.

pub mod address;
pub mod bookmark;
pub mod catch_up;
pub mod change;
pub mod id;
pub mod live;
pub mod loss;
pub mod metrics;
mod networks;
pub mod registry;
pub mod state;
pub mod upkeep;
