//! A GET of a connection that polls.
//!
//! It reads on from where the last one ended, whichever node that was at. The new positions and the answer are in the
//! record before the answer leaves. So a repeated GET gets the same answer, and a GET that another one has overtaken gets
//! nothing.

use super::framing::{Framing, Words};
use super::json_bytes::JsonBytes;
use super::payload;
use super::poll::{Polling, Refused, UNKNOWN, patience};
use super::reading::Reading;
use super::record::{Parts, Reader, Stamp};
use super::sockets::ENDED;
use super::transports::POLLING;
use crate::log::connections::{Part, Swapped};
use crate::wire::engineio::PacketType;
use crate::wire::engineio::handshake::Refusal;
use crate::wire::socketio::packet::Version;
use std::time::Duration;
use tokio::time::Instant;

/// The time within which a GET is answered while the client tries a WebSocket.
const PROBING: Duration = Duration::from_millis(90);

/// The longest wait of a GET in 0.9. Old proxies end longer ones.
const LONGEST_09: Duration = Duration::from_secs(20);

impl Polling<'_> {
    /// Ends the connection because the client has broken a rule.
    async fn break_off(&self) -> Refused {
        let _ = self.close("transport error").await;
        Refused::Engine(Refusal::BadRequest)
    }

    /// Answers a GET with a payload.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    pub async fn get(mut self) -> Result<(Framing, Vec<u8>), Refused> {
        let asked = Instant::now();
        let reader_metrics = self.state.delivery.open(POLLING.name());
        let mut parts = self.load().await?;
        let framing = parts.info.payload();
        if parts.reader.parked.is_none()
            && let Some((stamp, body)) = &parts.reader.last
            && stamp.is_of(self.t)
        {
            return Ok((framing, body.0.clone()));
        }
        // The same GET again: the browser has lost the connection on which the first one waits.
        // In 0.9, a new GET takes the place of the old one.
        let is_09 = framing.words() == Words::V1;
        if !is_09 && parts.reader.parked.as_ref().is_some_and(|parked| !parked.is_of(self.t)) {
            return Err(self.break_off().await);
        }
        let stamp = Stamp { t: self.t.map(str::to_owned) };
        parts.reader.parked = Some(stamp.clone());
        self.write_reader(&mut parts).await?;
        let interval = self.shared.settings.ping_interval.min(if is_09 { LONGEST_09 } else { Duration::MAX });
        let probes = parts.mode.probing_until_ms > self.state.hub.log().now_ms();
        let now_ms = || self.state.hub.log().now_ms();
        let ping_at_ms = parts.reader.pinged_ms + self.shared.settings.ping_interval.as_millis() as u64;
        let time = match framing {
            _ if probes => PROBING,
            Framing::Payload4 => Duration::from_millis(ping_at_ms.saturating_sub(now_ms())),
            _ => interval,
        };
        let connect_by_ms = parts.info.began_ms + self.shared.settings.connect_timeout.as_millis() as u64;
        let to_connect = Duration::from_millis(connect_by_ms.saturating_sub(now_ms()));
        // The client gets its ping at the end of this time, and then waits for the next one.
        self.until = Instant::now() + time + patience(self.shared).saturating_sub(asked.elapsed());
        let is_brief = parts.is_unused() && to_connect < time;
        let time = if is_brief { to_connect } else { time.min(interval) };
        let mut reading = Reading::open(&self, framing, &parts.reader).await.ok_or(UNKNOWN)?;
        tokio::select! {
            () = reading.fill(&self, time) => {}
            () = self.state.drain.begun() => reading.is_woken = true,
        }
        if is_brief && now_ms() >= connect_by_ms {
            reading.is_closed |= self.load().await?.is_unused();
        }
        if reading.is_closed || reading.closes {
            let _ = self.close(if reading.closes { ENDED } else { "transport close" }).await;
            let mut out = if reading.closes { reading.disconnect_all() } else { Vec::new() };
            framing.packet(PacketType::Close, "", &mut out);
            return Ok((framing, payload::finish(framing, out)));
        }
        let is_cut = probes || is_brief || reading.is_woken;
        let mut pinged_ms = parts.reader.pinged_ms;
        if framing == Framing::Payload4 && (now_ms() >= ping_at_ms || reading.out.is_empty() && !is_cut) {
            framing.packet(PacketType::Ping, "", &mut reading.out);
            pinged_ms = now_ms();
        }
        if reading.out.is_empty() {
            // A client of version 3 that gets pongs does not ask by itself.
            let kind =
                if is_cut || framing.version() == Version::V5 || is_09 { PacketType::Noop } else { PacketType::Pong };
            framing.packet(kind, "", &mut reading.out);
        }
        let body = payload::finish(framing, std::mem::take(&mut reading.out));
        reader_metrics.answer(&reading.messages, false, asked);
        reader_metrics.bytes(body.len());
        let last = (!is_09).then(|| (stamp, JsonBytes(body.clone())));
        parts.reader = Reader { parked: None, last, pinged_ms, ..reading.positions() };
        self.write_reader(&mut parts).await?;
        Ok((framing, body))
    }

    async fn write_reader(&self, parts: &mut Parts) -> Result<(), Refused> {
        match self.write(parts, Part::Reader, self.lifetime()).await? {
            Swapped::Done => Ok(()),
            // Another GET has taken over, or the connection is over.
            Swapped::Stale => Err(Refused::Engine(Refusal::BadRequest)),
            Swapped::Gone => Err(UNKNOWN),
        }
    }
}
