//! The claim of a POST: of several requests that bring the same POST, one at a time carries it out.
//!
//! A claim is a part of the record, and it has a deadline that its holder moves on. A repeated POST waits for the first
//! one, and takes over when that one's node has died.

use super::poll::{Polling, Refused, UNKNOWN};
use super::record::{Doing, Parts, Stamp, Writer};
use crate::log::connections::{Part, Swapped};
use crate::wire::engineio::handshake::Refusal;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a claim holds if its holder is not heard of.
const LEASE: Duration = Duration::from_secs(2);

/// How often the holder moves its deadline on.
pub const RENEW_EVERY: Duration = Duration::from_millis(500);

/// How often a repeated POST looks whether the first one is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The outcome of a wish to carry out a POST.
pub enum Claimed {
    /// It is done already.
    Done,
    /// The client has another POST under way.
    Other(Parts),
    /// This request carries it out.
    Mine(Claim),
}

/// A POST that this request carries out.
pub struct Claim {
    /// The record.
    parts: Parts,
    /// Whether another request has carried out a part of it.
    pub is_repeated: bool,
}

impl Claim {
    /// Claims a POST, unless it is done or another one is under way. Waits for a request that has claimed it before.
    ///
    /// # Errors
    ///
    /// The record is gone or away, or the first request takes too long.
    pub async fn take(polling: &Polling<'_>) -> Result<Claimed, Refused> {
        let until = Instant::now() + polling.lifetime();
        loop {
            let mut parts = polling.load().await?;
            if polling.t.is_some_and(|t| parts.writer.done.iter().any(|done| done == t)) {
                return Ok(Claimed::Done);
            }
            let doing = parts.writer.doing.as_ref();
            if doing.is_some_and(|doing| !doing.stamp.is_of(polling.t)) {
                return Ok(Claimed::Other(parts));
            }
            if doing.is_some_and(|doing| doing.until_ms > polling.state.hub.log().now_ms()) {
                if Instant::now() >= until {
                    return Err(Refused::Away);
                }
                sleep(LOOK_AGAIN).await;
                continue;
            }
            let is_repeated = doing.is_some();
            parts.writer.doing = Some(doing_now(polling));
            let mut claim = Claim { parts, is_repeated };
            match claim.write(polling).await? {
                Swapped::Done => return Ok(Claimed::Mine(claim)),
                // Another request was faster.
                Swapped::Stale => {}
                Swapped::Gone => return Err(UNKNOWN),
            }
        }
    }

    /// The record.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Moves the deadline on.
    ///
    /// # Errors
    ///
    /// Another request has taken over.
    pub async fn renew(&mut self, polling: &Polling<'_>) -> Result<(), Refused> {
        let writer = self.parts.writer.clone();
        self.note(polling, &writer).await
    }

    /// Notes what is done so far.
    ///
    /// # Errors
    ///
    /// Another request has taken over.
    pub async fn note(&mut self, polling: &Polling<'_>, writer: &Writer) -> Result<(), Refused> {
        self.parts.writer = Writer { doing: Some(doing_now(polling)), ..writer.clone() };
        match self.write(polling).await {
            Ok(Swapped::Stale) => Err(Refused::Engine(Refusal::BadRequest)),
            // The end of the POST finds out more. The client may have changed to a WebSocket.
            Ok(Swapped::Done | Swapped::Gone) | Err(_) => Ok(()),
        }
    }

    /// Notes that the POST is done.
    ///
    /// # Errors
    ///
    /// Another request has taken over, or the record is away.
    pub async fn finish(&mut self, polling: &Polling<'_>, mut writer: Writer) -> Result<(), Refused> {
        writer.finish(polling.t);
        self.parts.writer = writer;
        match self.write(polling).await? {
            // The client has changed to a WebSocket in between, which has taken over.
            Swapped::Done | Swapped::Gone => Ok(()),
            Swapped::Stale => Err(Refused::Engine(Refusal::BadRequest)),
        }
    }

    async fn write(&mut self, polling: &Polling<'_>) -> Result<Swapped, Refused> {
        polling.write(&mut self.parts, Part::Writer, polling.lifetime()).await
    }
}

fn doing_now(polling: &Polling<'_>) -> Doing {
    let until_ms = polling.state.hub.log().now_ms() + LEASE.as_millis() as u64;
    Doing { stamp: Stamp { t: polling.t.map(str::to_owned) }, until_ms }
}
