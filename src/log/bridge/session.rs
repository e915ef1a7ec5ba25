//! A session is the life of one subscription. It passes each PUBLISH to the [`Member`], and each request of the member
//! to the script.

mod connect;
mod receive;
mod script_call;
mod state;

pub(super) use state::Session;

use crate::log::bridge::config::BridgeConfig;
use crate::log::redis::ScriptError;
use futures_util::FutureExt;
use redis::{Client, Value};
use state::{Ended, UnreachableServer, timed_out};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt;
use tracing::{debug, warn};

/// The longest time between two renewals of the lease by its holder, and between two checks of the lease by other
/// members.
const TICK: Duration = Duration::from_millis(800);

/// After this time without an answer to its pings, a subscription counts as dead.
const PING: Duration = Duration::from_secs(5);

/// How many messages the session receives in a row before it checks whether a request is due.
const MESSAGES_IN_A_ROW: usize = 500;

impl Session {
    /// Listens until the session has to end.
    pub(super) async fn listen(
        &mut self,
        config: &BridgeConfig,
        unreachable: &mut UnreachableServer,
        listening: &watch::Sender<bool>,
    ) -> Ended {
        let listened = async {
            let client = self.choose_server(unreachable).await?;
            self.subscribe_and_listen(client, config, listening).await
        };
        match listened.await {
            Ok(never) => match never {},
            Err(ended) => {
                self.log.metrics().lost("subscription");
                ended
            }
        }
    }

    async fn subscribe_and_listen(
        &mut self,
        client: Client,
        config: &BridgeConfig,
        listening: &watch::Sender<bool>,
    ) -> Result<Never, Ended> {
        let (mut sink, mut stream) = self.subscribe(&client, &config.globs()).await?;
        let join = self.member.next_request(Instant::now());
        let mut asking = self.ask(join);

        let mut tick = tokio::time::interval(TICK.mul_f64(0.9 + 0.2 * fastrand::f64()));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Without pings, a connection that was cut silently would look alive.
        let mut pinging = Box::pin(async {
            loop {
                tokio::time::sleep(PING).await;
                let answer = tokio::time::timeout(PING, sink.ping::<Value>()).await;
                match answer {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Ended::Unsubscribed(ScriptError::Unanswered(error)),
                    Err(_) => return timed_out(),
                }
            }
        });
        let (mut is_asking, mut is_due) = (true, false);
        loop {
            let due = self.member.due().map(|due| due.max(self.rests_until));
            let waiting = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
            tokio::select! {
                received = stream.next() => {
                    let gone = || redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                    let received = received.ok_or_else(|| Ended::Unsubscribed(ScriptError::Unanswered(gone())))?;
                    self.receive(&received, config)?;
                    // Messages that arrived together are handled together.
                    for _ in 0..MESSAGES_IN_A_ROW {
                        let Some(Some(received)) = stream.next().now_or_never() else { break };
                        self.receive(&received, config)?;
                    }
                    if self.member.has_joined() && !*listening.borrow() {
                        listening.send_replace(true);
                    }
                    self.tell_waiting();
                }
                answer = &mut asking, if is_asking => {
                    is_asking = false;
                    is_due |= !self.take_answer(answer)? && !self.member.has_joined();
                }
                _ = tick.tick() => {
                    is_due = true;
                    let control = self.control.as_ref().filter(|_| !self.server.is_cluster);
                    if control.is_some_and(|control| self.log.has_moved(control.server().1)) {
                        return Err(Ended::Moved);
                    }
                }
                () = waiting, if !is_asking && due.is_some() => is_due = true,
                () = tokio::time::sleep_until(self.rests_until), if !is_asking && is_due => {}
                ended = &mut pinging => return Err(ended),
            }
            let now = Instant::now();
            if !is_asking && is_due && now >= self.rests_until {
                let request = self.member.next_request(now);
                asking = self.ask(request);
                (is_asking, is_due) = (true, false);
            }
        }
    }

    /// Ends the session: gives the lease back, and appends the waiting messages to the log unless another member does
    /// so. The log may be on another server by now.
    pub(super) async fn finish(mut self, time: Duration) {
        if self.member.holds() {
            self.log.metrics().holds_lease.set(0);
        }
        self.is_finishing = true;
        self.member.finish();
        self.rests_until = Instant::now();
        let deadline = Instant::now() + time;
        while (self.member.waiting() > 0 || self.member.holds()) && Instant::now() < deadline {
            let due = self.member.due().unwrap_or(self.rests_until).max(self.rests_until);
            tokio::time::sleep_until(due.min(deadline)).await;
            let request = self.member.next_request(Instant::now());
            let answer = self.ask(request).await;
            if self.take_answer(answer).is_err() {
                break;
            }
        }
        if self.member.waiting() > 0 {
            let lost = self.member.waiting() as u64;
            self.log.metrics().overflowed.inc_by(lost);
            warn!(lost, "PUBLISHes that this node received could not be appended to the log");
        }
        if self.member.holds() {
            debug!("the lease could not be given back; it expires");
        }
    }
}

enum Never {}
