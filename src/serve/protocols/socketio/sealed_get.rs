//! A GET of a connection with a sealed id. It reads on from the positions in the id, and the next id has the new ones. So
//! nothing is stored, any node can answer, and a repeated GET gets what the first one got, and perhaps more.

use super::entries::ConnectionEntry;
use super::framing::Framing;
use super::payload;
use super::poll::{Polling, Refused, UNKNOWN};
use super::reading::Reading;
use super::record::{Info, Reader};
use super::resumed::read_up_to;
use super::sealed::SealedConnection;
use super::transports::POLLING;
use crate::cursor::{Cursor, Start};
use crate::log::connections::{Part, Swapped};
use crate::serve::client_sessions::address::own_channel;
use crate::serve::events::connect;
use tokio::time::Instant;

impl Polling<'_> {
    /// Answers a GET with a payload.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    pub async fn get_sealed(mut self, connection: &SealedConnection) -> Result<(Framing, Vec<u8>), Refused> {
        let asked = Instant::now();
        let reader_metrics = self.state.delivery.open(POLLING.name());
        self.check_open(connection).await?;
        let SealedConnection { info, reader, .. } = connection;
        let framing = info.payload();
        let time = self.waiting_time(framing, reader.pinged_ms);
        let mut reading = self.read(framing, reader, time, asked).await?;
        if reading.is_closed || reading.closes {
            return Ok((framing, self.end(framing, &mut reading).await));
        }
        let is_cut = reading.is_woken;
        let pinged_ms = self.complete(framing, &mut reading, reader.pinged_ms, is_cut);
        let sid = match self.next_sid(info, &mut reading, pinged_ms).await {
            Some(sid) => sid,
            None => self.go_on_with_record(info, &mut reading, pinged_ms).await?,
        };
        let body = payload::finish(framing, self.open_with(info, &sid, &reading.out));
        reader_metrics.answer(&reading.messages, false, asked);
        reader_metrics.bytes(body.len());
        Ok((framing, body))
    }

    /// Checks that a connection with a sealed id is not over. The end is an entry on its own channel.
    pub async fn check_open(&self, connection: &SealedConnection) -> Result<(), Refused> {
        let at: Cursor = connection.reader.at.parse().map_err(|_| UNKNOWN)?;
        let own = own_channel(self.id).ok_or(UNKNOWN)?;
        connect::reach_at(self.state, at).await.map_err(|_| Refused::Away)?;
        let head = self.state.hub.head().ok_or(Refused::Away)?;
        let own = std::slice::from_ref(&own);
        if self.state.hub.unchanged_until(own, at) == head {
            return Ok(());
        }
        let mut subscription = self.state.hub.subscribe(None, own, Start::After(at), None, None);
        let entries = read_up_to(&mut subscription, head).await.ok_or(UNKNOWN)?;
        let is_end = |entry: ConnectionEntry| matches!(entry, ConnectionEntry::Closed | ConnectionEntry::Gone);
        let is_over = entries.iter().any(|entry| ConnectionEntry::read(entry).is_some_and(is_end));
        if is_over { Err(UNKNOWN) } else { Ok(()) }
    }

    /// Leaves the positions in the record, because they do not fit into an id. Returns the id of the record.
    async fn go_on_with_record(&self, info: &Info, reading: &mut Reading, pinged_ms: u64) -> Result<String, Refused> {
        let sockets = reading.recorded_places(self).await.map_err(|_| Refused::Away)?;
        let mut parts = self.load().await?;
        parts.reader = Reader { pinged_ms, sockets, was_offered: true, ..reading.positions() };
        match self.write(&mut parts, Part::Reader, self.lifetime()).await? {
            Swapped::Done => Ok(info.sid(self.id.secret())),
            Swapped::Stale | Swapped::Gone => Err(UNKNOWN),
        }
    }
}
