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
use std::time::Duration;
use tokio::time::Instant;

/// The time within which a GET is answered while the client tries a WebSocket.
const PROBING: Duration = Duration::from_millis(90);

/// The longest wait of a GET in 0.9. Old proxies end longer ones.
const LONGEST_09: Duration = Duration::from_secs(20);

/// How long a GET of 0.9 has waited whose repetition is known by its time stamp, which is a time in milliseconds.
const LONG_09: Duration = Duration::from_millis(20);

/// How a GET begins.
enum Begun {
    /// It waits, and the record has its stamp.
    Waits(Box<Parts>, Stamp),
    /// It is a repeated GET that has its answer.
    Answered(Framing, Vec<u8>),
}

impl Polling<'_> {
    /// Ends the connection because the client has broken a rule.
    async fn break_off(&self) -> Refused {
        let _ = self.close("transport error").await;
        Refused::Engine(Refusal::BadRequest)
    }

    /// Answers a GET with a payload. `follows`: whether it is a client that may follow a sealed id.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    pub async fn get(mut self, follows: bool) -> Result<(Framing, Vec<u8>), Refused> {
        let asked = Instant::now();
        let reader_metrics = self.state.delivery.open(POLLING.name());
        let (mut parts, stamp) = match self.park().await? {
            Begun::Waits(parts, stamp) => (parts, stamp),
            Begun::Answered(framing, body) => return Ok((framing, body)),
        };
        let framing = parts.info.payload();
        let is_09 = framing.words() == Words::V1;
        let probes = parts.mode.probing_until_ms > self.state.hub.log().now_ms();
        let now_ms = || self.state.hub.log().now_ms();
        let time = if probes { PROBING } else { self.waiting_time(framing, parts.reader.pinged_ms) };
        let connect_by_ms = parts.info.began_ms + self.shared.settings.connect_timeout.as_millis() as u64;
        let to_connect = Duration::from_millis(connect_by_ms.saturating_sub(now_ms()));
        let is_brief = parts.is_unused() && to_connect < time;
        let time = if is_brief { to_connect } else { time };
        let mut reading = self.read(framing, &parts.reader, time, asked).await?;
        if is_brief && self.state.hub.log().now_ms() >= connect_by_ms {
            reading.is_closed |= self.load().await?.is_unused();
        }
        if reading.is_closed || reading.closes {
            return Ok((framing, self.end(framing, &mut reading).await));
        }
        let is_cut = probes || is_brief || reading.is_woken;
        let pinged_ms = self.complete(framing, &mut reading, parts.reader.pinged_ms, is_cut);
        let mut out = std::mem::take(&mut reading.out);
        let next = if self.may_offer(&parts, follows) && !is_cut {
            self.next_sid(&parts.info, &mut reading, pinged_ms).await
        } else {
            None
        };
        if let Some(sid) = &next {
            out = self.open_with(&parts.info, sid, &out);
        }
        let body = payload::finish(framing, out);
        reader_metrics.answer(&reading.messages, false, asked);
        reader_metrics.bytes(body.len());
        // In 0.9 a time stamp is a time. The next GET of a client that has waited so long has a later one.
        let is_known = !is_09 || asked.elapsed() >= LONG_09;
        let last = is_known.then(|| (stamp, JsonBytes(body.clone())));
        let was_offered = parts.reader.was_offered || next.is_some();
        parts.reader = Reader { parked: None, was_offered, last, pinged_ms, ..reading.positions() };
        self.write_reader(&mut parts).await?;
        Ok((framing, body))
    }

    /// Notes in the record that this GET waits.
    async fn park(&self) -> Result<Begun, Refused> {
        loop {
            let mut parts = self.load().await?;
            let framing = parts.info.payload();
            if parts.reader.parked.is_none()
                && let Some((stamp, body)) = &parts.reader.last
                && stamp.is_of(self.t)
            {
                return Ok(Begun::Answered(framing, body.0.clone()));
            }
            // The same GET again: the browser has lost the connection on which the first one waits.
            // In 0.9, a new GET takes the place of the old one.
            let is_09 = framing.words() == Words::V1;
            if !is_09 && parts.reader.parked.as_ref().is_some_and(|parked| !parked.is_of(self.t)) {
                return Err(self.break_off().await);
            }
            let stamp = Stamp { t: self.t.map(str::to_owned) };
            parts.reader.parked = Some(stamp.clone());
            match self.write(&mut parts, Part::Reader, self.lifetime()).await? {
                Swapped::Done => return Ok(Begun::Waits(Box::new(parts), stamp)),
                // Another GET has come between. Each turn lets one of them through, so the turns end.
                Swapped::Stale => {}
                Swapped::Gone => return Err(UNKNOWN),
            }
        }
    }

    /// How long a GET may wait for messages. Clients of version 4 need pings on schedule.
    pub fn waiting_time(&self, framing: Framing, pinged_ms: u64) -> Duration {
        let interval = self.shared.settings.ping_interval;
        match framing.words() {
            Words::V5 => {
                let ping_at_ms = pinged_ms + interval.as_millis() as u64;
                let left = ping_at_ms.saturating_sub(self.state.hub.log().now_ms());
                Duration::from_millis(left).min(interval)
            }
            Words::V4 => interval,
            Words::V1 => interval.min(LONGEST_09),
        }
    }

    /// Reads for this time. From then on, the request waits for a record that is away as long as its client does.
    pub async fn read(
        &mut self,
        framing: Framing,
        reader: &Reader,
        time: Duration,
        asked: Instant,
    ) -> Result<Reading, Refused> {
        // The client gets its ping at the end of this time, and then waits for the next one.
        self.until = Instant::now() + time + patience(self.shared).saturating_sub(asked.elapsed());
        let mut reading = Reading::open(self, framing, reader).await.ok_or(UNKNOWN)?;
        tokio::select! {
            () = reading.fill(self, time) => {}
            () = self.state.drain.begun() => reading.is_woken = true,
        }
        Ok(reading)
    }

    /// Ends the connection, and returns the last answer.
    pub async fn end(&self, framing: Framing, reading: &mut Reading) -> Vec<u8> {
        let _ = self.close(if reading.closes { ENDED } else { "transport close" }).await;
        let mut out = if reading.closes { reading.disconnect_all() } else { Vec::new() };
        // The client that has closed the connection itself gets no close packet.
        let kind = if reading.is_gone { PacketType::Noop } else { PacketType::Close };
        framing.packet(kind, "", &mut out);
        payload::finish(framing, out)
    }

    /// Adds the signs of life that an answer needs. `is_cut`: whether the GET has ended before its time. Returns the time
    /// of the last ping.
    pub fn complete(&self, framing: Framing, reading: &mut Reading, pinged_ms: u64, is_cut: bool) -> u64 {
        let (now_ms, out) = (self.state.hub.log().now_ms(), &mut reading.out);
        let ping_at_ms = pinged_ms + self.shared.settings.ping_interval.as_millis() as u64;
        let mut pinged_ms = pinged_ms;
        if framing == Framing::Payload4 && (now_ms >= ping_at_ms || out.is_empty() && !is_cut) {
            framing.packet(PacketType::Ping, "", out);
            pinged_ms = now_ms;
        }
        if out.is_empty() {
            // A client of version 3 that gets pongs does not ask by itself.
            let is_quiet = is_cut || framing.words() != Words::V4;
            framing.packet(if is_quiet { PacketType::Noop } else { PacketType::Pong }, "", out);
        }
        pinged_ms
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
