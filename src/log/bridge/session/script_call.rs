//! Runs the script for a session, and handles the answer.

use super::state::{ANSWER_TIMEOUT, Ended, ScriptAnswer, Session};
use crate::log::BoxFuture;
use crate::log::bridge::member::Request;
use crate::log::bridge::script;
use crate::log::redis::{BRIDGE, ScriptError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long a session waits after a request without a usable answer.
const RETRY: Duration = Duration::from_millis(150);

impl Session {
    /// Runs the script in a future of its own, so that the session can receive messages at the same time.
    pub(super) fn ask(&mut self, request: Request) -> BoxFuture<'static, ScriptAnswer> {
        let mut args = self.args(&request);
        let keys = [self.log.keys().log.clone(), self.keys[0].clone(), self.keys[1].clone()];
        let (log, control) = (self.log.clone(), self.control.take());
        Box::pin(async move {
            let mut control = match control {
                Some(control) => control,
                None => match log.connect(ANSWER_TIMEOUT).await {
                    Ok(control) => control,
                    Err(error) => return (None, request, Err(error)),
                },
            };
            // Only this future knows the server on which the script runs.
            args[0] = control.candidate();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let answer = control.run(&BRIDGE, &keys, &args).await;
            (Some(control), request, answer)
        })
    }

    pub(super) fn args(&self, request: &Request) -> Vec<String> {
        script::args(self.log.config(), self.member.id(), &self.markers, &self.server, request)
    }

    /// Applies the script's answer. Returns false if no answer came.
    pub(super) fn take_answer(&mut self, (control, request, answer): ScriptAnswer) -> Result<bool, Ended> {
        // Without a Cluster, this session does not receive PUBLISHes from another server.
        if let (Some(control), false, false) = (&control, self.is_finishing, self.server.is_cluster)
            && control.server().1 != self.server.run_id
        {
            return Err(Ended::Moved);
        }
        let now = Instant::now();
        let state = match answer.and_then(|reply| script::state(&reply).ok_or(ScriptError::Unexpected)) {
            Ok(state) => state,
            Err(error) => {
                debug!(%error, waiting = self.member.waiting(), "the bridge cannot reach the log");
                self.member.unanswered();
                self.rests_until = now + RETRY.mul_f64(0.7 + 0.6 * fastrand::f64());
                return Ok(false);
            }
        };
        self.control = control;
        if self.server.is_cluster
            && !self.is_finishing
            && state.server != self.server.run_id
            && !state.server.is_empty()
        {
            return Err(Ended::Moved);
        }
        let metrics = self.log.metrics();
        if state.forgotten > 0 {
            metrics.forgotten_keys.inc_by(state.forgotten);
            warn!(
                forgotten = state.forgotten,
                "PUBLISHes were appended, but their idempotency keys are not remembered: the keys of publishers \
                 through Redis have used up their share of --key-bytes"
            );
        }
        let learned = self.member.learn(&request, state, now);
        if learned.in_vain {
            self.rests_until = now + RETRY;
        }
        metrics.bridged.inc_by(learned.bridged as u64);
        metrics.already_appended.inc_by(learned.already_appended as u64);
        if learned.dropped > 0 {
            metrics.overflowed.inc_by(learned.dropped as u64);
            warn!(
                lost = learned.dropped,
                "PUBLISHes that this node received have waited so long that Redis has forgotten their numbers"
            );
        }
        self.tell_waiting();
        if !self.is_finishing {
            let metrics = self.log.metrics();
            if learned.changed_hands {
                metrics.lease_changes.inc();
                info!(holds = self.member.holds(), "the lease to append PUBLISHes has moved to another node");
            }
            metrics.holds_lease.set(self.member.holds().into());
            if learned.has_lost_track {
                return Err(Ended::LostTrack);
            }
        }
        Ok(true)
    }

    /// Updates the gauge that all sessions of a node share.
    pub(super) fn tell_waiting(&mut self) {
        let waiting = self.member.waiting() as i64;
        self.log.metrics().waiting.inc_by(waiting - self.waiting);
        self.waiting = waiting;
    }
}
