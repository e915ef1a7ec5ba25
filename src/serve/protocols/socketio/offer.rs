//! The sealed ids that answers to GETs have: which client gets one, and what is in it.

use super::poll::Polling;
use super::reading::Reading;
use super::record::{Info, Parts, Reader};
use super::request::{EngineVersion, handshake};
use super::sealed::SealedConnection;
use crate::log::seal_keys::ROTATE;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::wire::engineio::PacketType;

impl Polling<'_> {
    /// How the bookmarks of sessions are sealed that begin now.
    pub fn bookmarks(&self) -> Bookmarks {
        if self.sealed.is_some() { Bookmarks::Sealed { life: self.session_life() } } else { Bookmarks::Record }
    }

    /// The next id of the connection, and the positions that are in it. `None` if there can be none: then the connection
    /// needs the record.
    pub async fn next_sid(&self, info: &Info, reading: &mut Reading, pinged_ms: u64) -> Option<String> {
        let places = reading.sealed_places(self).await?;
        let reader = Reader { pinged_ms, sockets: places, ..reading.positions() };
        let connection = SealedConnection { id: self.id.clone(), info: info.clone(), reader };
        let ends_ms = self.state.hub.log().now_ms() + self.lifetime().as_millis() as u64;
        connection.seal(self.state, ends_ms).await.map(|secret| info.sid(&secret))
    }

    /// Puts a packet in front of others that tells the client its next id.
    pub fn open_with(&self, info: &Info, sid: &str, packets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(packets.len() + sid.len() + 128);
        let open = handshake(&self.shared.settings, info.engine(), sid, false).json();
        info.payload().packet(PacketType::Open, &open, &mut out);
        out.extend_from_slice(packets);
        out
    }

    /// Whether the client is offered a sealed id now. One that does not follow goes on with the record. `follows`: whether
    /// it is a client that may follow. The time for a change to a WebSocket is over with the first ping.
    pub fn may_offer(&self, parts: &Parts, follows: bool) -> bool {
        let age_ms = self.state.hub.log().now_ms().saturating_sub(parts.info.began_ms);
        // A socket that a client may recover needs a record, and so does one whose end the application is told, or whose
        // bookmark would outlive its key.
        let outlives_keys = self.session_life() >= ROTATE;
        let needs_record = self.shared.settings.recovery || self.state.sealed.takes_none() || outlives_keys;
        follows
            && parts.info.engine() != EngineVersion::V1
            && !needs_record
            && !parts.reader.was_offered
            && !parts.is_unused()
            && age_ms >= self.shared.settings.ping_interval.as_millis() as u64
    }
}
