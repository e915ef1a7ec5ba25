//! Answers a poll or a long poll of a session. It reads the session's channels and applies its changes as it goes.

use super::poll::{BATCH_MESSAGES, Wait, response_of};
use super::response::Response;
use crate::cursor::{Cursor, Start};
use crate::hub::{Gap, Hub, Limit, Step, Subscription};
use crate::message::Message;
use crate::serve::client_sessions::catch_up::{CannotCatchUp, catch_up};
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::session::batch::BATCH_BYTES;
use crate::serve::session::record::SessionRecord;
use crate::serve::state::ServerState;
use crate::transport::{Accepted, ApiError, Batch, BatchSession, Params, Transport};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// How long a poll waits for the log, or for a node that is behind the cursor.
const STEP_WAIT: Duration = Duration::from_secs(5);

/// Answers with a batch. If the application ends the session, the batch says so, after the last events.
///
/// # Errors
///
/// The session's next bookmark cannot be kept. The client still has the one that it has brought.
pub async fn answer(
    state: &Arc<ServerState>,
    transport: &'static dyn Transport,
    params: &Params,
    opening: Accepted,
    session: SessionState,
    wait: Wait<'_>,
) -> Result<Response, ApiError> {
    let (name, asked) = (transport.name(), Instant::now());
    let mut record = SessionRecord::new(state.delivery.open(name));
    if !wait.is_check {
        state.hub.polled(name, params.channels.iter(), &session.client, wait.time.unwrap_or_default());
    }
    // A client that does not name a position goes on where the session is.
    let start = params.cursor.unwrap_or(Start::After(session.cursor));
    let client = Some(session.client.clone());
    let mut subscription = state.hub.subscribe(None, &params.channels, start, params.last, client);
    subscription.read_members(params.presence);
    let mut session = LiveSession::of_poll(&state.sessions, &state.hub, session);
    session.begin(&mut subscription);
    let limit = params.limit.unwrap_or(BATCH_MESSAGES);
    let mut collected = Collected { limit, messages: Vec::new(), bytes: 0, gap: None, upto: None, is_lost: false };
    tokio::select! {
        () = collected.fill(&state.hub, &mut session, &mut subscription, wait.time) => {}
        () = state.drain.begun() => {}
        () = poll_fn(|cx| wait.client_shut.map_or(Poll::Pending, |client| client.poll(cx))) => {}
    }
    let Collected { mut messages, gap, upto, is_lost, .. } = collected;
    if wait.time.is_none() {
        messages.retain(|message| message.cursor().is_some());
    }
    let cursor = upto.unwrap_or(subscription.cursor());
    // A session that is lost is not known any more at the next poll. The client then begins a new one.
    let named = match (session.has_ended(), is_lost) {
        (true, false) => BatchSession::Ended,
        (true, true) => BatchSession::Open(session.id().secret().clone()),
        (false, _) => BatchSession::Open(state.bookmarks(session.state().bookmarks).keep(session.state()).await?),
    };
    if wait.time.is_none() {
        session.ends_at(cursor);
    }
    drop(session);
    let batch = Batch { gap, messages, cursor, session: named, is_complete: false };
    Ok(response_of(&batch, &opening, &mut record, asked))
}

/// What a poll has found so far.
struct Collected {
    limit: usize,
    messages: Vec<Arc<Message>>,
    bytes: usize,
    gap: Option<Gap>,
    /// The position of a gap after the messages, which the next batch begins with.
    upto: Option<Cursor>,
    /// Whether the gap may have contained changes of the session.
    is_lost: bool,
}

impl Collected {
    /// Collects what is there, and waits up to `time` for the first message or gap.
    async fn fill(
        &mut self,
        hub: &Arc<Hub>,
        session: &mut LiveSession,
        subscription: &mut Subscription,
        time: Option<Duration>,
    ) {
        let until = Instant::now() + time.unwrap_or(STEP_WAIT);
        while self.messages.len() < self.limit && self.bytes < BATCH_BYTES && !session.has_ended() {
            let mut batch = Vec::new();
            let room = Limit { messages: self.limit - self.messages.len(), bytes: BATCH_BYTES - self.bytes };
            let waits = time.is_some() && self.messages.is_empty() && self.gap.is_none();
            let step = poll_fn(|cx| match subscription.poll_step(cx, room, &mut batch) {
                _ if session.poll_lost(cx) => Poll::Ready(Step::Idle),
                Poll::Ready(Step::Idle | Step::Ahead) | Poll::Pending if !batch.is_empty() => {
                    Poll::Ready(Step::Messages)
                }
                Poll::Ready(Step::Idle | Step::Ahead) if waits => Poll::Pending,
                step => step,
            });
            let Ok(step) = tokio::time::timeout_at(until, step).await else { return };
            // As in a batch without a session: see `BatchBuilder::ends_before`.
            if let Step::Gap(gap) = step
                && !self.messages.is_empty()
                && gap.from.id > gap.cursor.id
            {
                self.upto = Some(gap.from);
                return;
            }
            session.take(&mut batch, subscription);
            self.bytes += batch.iter().map(|message| message.object().len()).sum::<usize>();
            self.messages.append(&mut batch);
            match step {
                Step::Messages => {}
                Step::Gap(gap) => {
                    let from = self.gap.map_or(gap.from, |first| first.from);
                    self.gap = Some(Gap { from, ..gap });
                    if session.is_interrupted_by(&gap, subscription) {
                        let state = session.state().clone();
                        match catch_up(hub, state, Some(gap.cursor)).await {
                            Ok(state) => session.go_on(state, subscription),
                            // The next request finds out more.
                            Err(CannotCatchUp::Late) => return,
                            Err(CannotCatchUp::Lost) => {
                                self.is_lost = true;
                                session.end_lost();
                            }
                            Err(CannotCatchUp::Ended { .. }) => session.end(),
                        }
                    }
                }
                Step::Idle | Step::Ahead => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Epoch;
    use crate::hub::controlled_log::{controlled, extent, id, message};
    use crate::log::memory::MemoryLog;
    use crate::log::sessions::MemorySessions;
    use crate::log::{Ancestor, Page, Retention, TailEvent};
    use crate::message::Channel;
    use crate::serve::client_sessions::bookmark_store::BookmarkStore as _;
    use crate::serve::client_sessions::id::SessionId;
    use crate::serve::client_sessions::metrics::SessionMetrics;
    use crate::serve::client_sessions::registry::{ClientSessions, SessionSettings};

    /// A page can come from a server that has lost its role: it has entries that the log has lost when the page arrives.
    #[tokio::test]
    async fn messages_before_a_gap_are_not_in_its_batch() {
        let (hub, controls) = controlled();
        let (old, new) = (Epoch::random(), Epoch::random());
        controls.tail.send(TailEvent::Opened(extent(old, Vec::new(), id(5), id(5)))).expect("it listens");
        controls.tail.send(TailEvent::CaughtUp).expect("it listens");
        hub.ready().await;
        let retention = Retention { age: Duration::from_secs(60), messages: 9, bytes: 999, control: 10 };
        let store = Arc::new(MemorySessions::new(Arc::new(MemoryLog::new(retention))));
        let settings = SessionSettings { most: 10, away: Duration::from_secs(30), per_network: 0 };
        let sessions = ClientSessions::new(settings, store, SessionMetrics::default());
        let channel: Channel = "a".parse().expect("a channel");
        let client = "me".parse().expect("a client id");
        let at = Cursor { id: id(4), epoch: old };
        let mut state = SessionState::new(SessionId::random().expect("an id"), "native", "/", client, at);
        state.name_all(std::slice::from_ref(&channel)).expect("room");
        sessions.create(&mut state, Duration::ZERO, true).await.expect("created");
        let mut subscription = hub.subscribe(None, std::slice::from_ref(&channel), Start::After(at), None, None);
        let mut session = LiveSession::of_poll(&sessions, &hub, state);
        session.begin(&mut subscription);
        let mut collected =
            Collected { limit: 10, messages: Vec::new(), bytes: 0, gap: None, upto: None, is_lost: false };
        let lost = Cursor { id: id(7), epoch: old };
        let fails_over = async {
            // The log goes on at another server, without the last entry of the old epoch.
            let lineage = vec![Ancestor { epoch: old, last: id(5), is_cut: true }];
            controls.tail.send(TailEvent::Opened(extent(new, lineage, id(5), id(6)))).expect("it listens");
            let entries = TailEvent::Entries { after: id(5), messages: Vec::new(), upto: id(6) };
            controls.tail.send(entries).expect("it listens");
            controls.tail.send(TailEvent::CaughtUp).expect("it listens");
            hub.reached_in_lineage(Cursor { id: id(6), epoch: new }).await;
            let extent = extent(old, Vec::new(), id(3), id(7));
            let page = Page { extent, messages: vec![message(Some(lost), &channel)], upto: id(7) };
            controls.pages.send(page).expect("it asks");
        };
        tokio::join!(collected.fill(&hub, &mut session, &mut subscription, None), fails_over);
        assert_eq!((collected.gap, collected.messages.len(), collected.upto), (None, 1, Some(lost)));
    }
}
