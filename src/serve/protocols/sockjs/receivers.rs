//! The requests that read: of each session, one at a time, at any node.
//!
//! A request claims its session in the record, and gives it back at the end of its response, with the position up to
//! which the client has read. The next request goes on from there. While a request reads, its node renews the claim. So
//! if a node dies, another one takes over as soon as the claim has run out.

use super::record::{self, Holder, Info, Mode, Reader, Session, part};
use super::settings::Close;
use crate::cursor::Cursor;
use crate::log::Unreachable;
use crate::log::connections::{ConnectionStore, Part, Swapped};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::state::ServerState;
use futures_util::StreamExt as _;
use futures_util::stream;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a claim holds if its node is not heard of.
const LEASE: Duration = Duration::from_secs(10);

/// How often a node renews its claims, and how often it looks which ones are due.
const RENEW_EVERY: Duration = Duration::from_secs(4);
const TICK: Duration = Duration::from_secs(1);

/// How many claims are renewed at the same time.
const RENEWALS: usize = 64;

/// How long a session lives after a response. Clients send their next request at once.
const AWAY: Duration = Duration::from_secs(15);

/// How long a request waits for another one of its session at this node, which may just be ending, and how often it
/// looks.
const ENDING: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// How often a request looks whether the node of another one still renews its claim.
const LOOK_AWAY: Duration = Duration::from_millis(250);

/// How often a request tries to give its session back. Each try takes as long as Redis may take for an answer.
const GIVE_BACK_TRIES: usize = 3;

/// The requests that read at this node.
pub struct Receivers {
    store: Arc<dyn ConnectionStore>,
    /// The most sessions of all nodes.
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    claims: HashMap<u64, Renewable>,
    /// Whether the task that renews them runs.
    is_renewing: bool,
}

struct Renewable {
    due: Instant,
    slot: Arc<Slot>,
}

/// A claim, as the task that renews it sees it.
struct Slot {
    state: Arc<ServerState>,
    id: SessionId,
    number: u64,
    at: String,
    /// The version of the record's part; `None` when the claim is given back.
    version: tokio::sync::Mutex<Option<u64>>,
}

impl Slot {
    fn reader(&self) -> Reader {
        let until_ms = self.state.hub.log().now_ms() + LEASE.as_millis() as u64;
        Reader { at: self.at.clone(), holder: Some(Holder { number: self.number, until_ms }) }
    }

    async fn renew(&self, store: &dyn ConnectionStore) {
        let mut version = self.version.lock().await;
        let Some(known) = *version else { return };
        // While the record cannot be reached, the version stays.
        if let Ok(next) = self.change(store, &self.reader(), known, LEASE + AWAY).await {
            *version = next;
        }
    }

    /// Changes the record's part while the claim holds. Returns its next version; `None` if the claim does not hold any
    /// more.
    ///
    /// # Errors
    ///
    /// The record cannot be reached. It may have been changed.
    async fn change(
        &self,
        store: &dyn ConnectionStore,
        reader: &Reader,
        mut version: u64,
        ends_in: Duration,
    ) -> Result<Option<u64>, Unreachable> {
        for _ in 0..2 {
            match store.swap(self.id.secret(), Part::Reader, &part(reader, version), ends_in).await? {
                Swapped::Done => return Ok(Some(version + 1)),
                Swapped::Gone => return Ok(None),
                Swapped::Stale => {}
            }
            // A former change may have been carried out although its answer did not come.
            let session = store.load(self.id.secret()).await?.as_ref().and_then(Session::read);
            let is_mine = |session: &Session| session.reader.holder.is_some_and(|holder| holder.number == self.number);
            let Some(session) = session.filter(is_mine) else { return Ok(None) };
            version = session.version;
        }
        Ok(None)
    }
}

/// The outcome of a wish to read.
pub enum Claimed {
    /// There is no such session.
    Unknown,
    /// The session is over.
    Closed(Close),
    /// Another request reads.
    Busy,
    /// This request reads.
    Mine(Claim),
}

/// What happens if a client goes away before the end of its response.
type Interrupted = Box<dyn FnOnce(&Info) + Send>;

/// A request that reads. If it is dropped before it is given back, its client has gone away, and the session ends.
pub struct Claim {
    receivers: Arc<Receivers>,
    slot: Arc<Slot>,
    /// What never changes about the session.
    pub info: Info,
    /// The position up to which the client has read.
    pub at: Cursor,
    mode_version: u64,
    is_given_back: bool,
    interrupted: Option<Interrupted>,
}

impl Receivers {
    /// No requests yet. `most`: the most sessions of all nodes.
    pub fn new(store: Arc<dyn ConnectionStore>, most: usize) -> Arc<Receivers> {
        Arc::new(Receivers { store, most, held: Mutex::default() })
    }

    /// Finds a session.
    ///
    /// # Errors
    ///
    /// The record cannot be reached.
    pub async fn find(&self, id: &SessionId) -> Result<Option<Session>, Unreachable> {
        Ok(self.store.load(id.secret()).await?.as_ref().and_then(Session::read))
    }

    /// Begins a session that nobody reads. Returns whether there was none, and room for one.
    ///
    /// # Errors
    ///
    /// The record cannot be reached.
    pub async fn create(
        &self,
        id: &SessionId,
        info: &Info,
        at: Cursor,
        closed: Option<&Close>,
    ) -> Result<bool, Unreachable> {
        let record = record::new(info, &Reader { at: at.to_string(), holder: None }, closed);
        self.store.create(id.secret(), &record, AWAY, self.most).await
    }

    /// Begins a session that this request reads; `None` if there is one, or no room for one.
    ///
    /// # Errors
    ///
    /// The record cannot be reached.
    pub async fn begin(
        self: &Arc<Receivers>,
        state: &Arc<ServerState>,
        id: &SessionId,
        info: Info,
        at: Cursor,
    ) -> Result<Option<Claim>, Unreachable> {
        let slot = Slot::new(state, id, at, 0);
        let record = record::new(&info, &slot.reader(), None);
        let created = self.store.create(id.secret(), &record, LEASE + AWAY, self.most).await?;
        Ok(created.then(|| self.hold(slot, info, at, 0)))
    }

    /// Claims a session. Waits a moment for another request that reads.
    ///
    /// # Errors
    ///
    /// The record cannot be reached.
    pub async fn claim(
        self: &Arc<Receivers>,
        state: &Arc<ServerState>,
        id: &SessionId,
    ) -> Result<Claimed, Unreachable> {
        let (asked, mut seen) = (Instant::now(), None);
        loop {
            let Some(session) = self.find(id).await? else { return Ok(Claimed::Unknown) };
            if let Some(close) = session.closed {
                return Ok(Claimed::Closed(close));
            }
            let now_ms = state.hub.log().now_ms();
            if let Some(holder) = session.reader.holder.filter(|holder| holder.until_ms > now_ms) {
                let is_here = self.held.lock().claims.contains_key(&holder.number);
                let was_renewed = seen.replace(holder).is_some_and(|before| before != holder);
                let is_busy = if is_here { asked.elapsed() >= ENDING } else { was_renewed };
                if is_busy {
                    return Ok(Claimed::Busy);
                }
                sleep(if is_here { LOOK_AGAIN } else { LOOK_AWAY }).await;
                continue;
            }
            let Ok(at) = session.reader.at.parse::<Cursor>() else { return Ok(Claimed::Unknown) };
            let slot = Slot::new(state, id, at, session.version + 1);
            let next = part(&slot.reader(), session.version);
            match self.store.swap(id.secret(), Part::Reader, &next, LEASE + AWAY).await? {
                Swapped::Done => return Ok(Claimed::Mine(self.hold(slot, session.info, at, session.mode_version))),
                // Another request was faster.
                Swapped::Stale => {}
                Swapped::Gone => return Ok(Claimed::Unknown),
            }
        }
    }

    fn hold(self: &Arc<Receivers>, slot: Slot, info: Info, at: Cursor, mode_version: u64) -> Claim {
        let slot = Arc::new(slot);
        let mut held = self.held.lock();
        held.claims.insert(slot.number, Renewable { due: Instant::now() + RENEW_EVERY, slot: slot.clone() });
        if !std::mem::replace(&mut held.is_renewing, true) {
            tokio::spawn(renew(Arc::downgrade(self)));
        }
        drop(held);
        Claim { receivers: self.clone(), slot, info, at, mode_version, is_given_back: false, interrupted: None }
    }

    /// The claims that are due; `None` if there are no claims at all.
    fn due(&self) -> Option<Vec<Arc<Slot>>> {
        let (mut held, now) = (self.held.lock(), Instant::now());
        if held.claims.is_empty() {
            held.is_renewing = false;
            return None;
        }
        let due = held.claims.values_mut().filter(|claim| claim.due <= now);
        let slots = due.map(|claim| {
            claim.due = now + RENEW_EVERY;
            claim.slot.clone()
        });
        Some(slots.collect())
    }
}

/// Renews the claims of a node while there are any.
async fn renew(receivers: Weak<Receivers>) {
    loop {
        sleep(TICK).await;
        let Some(receivers) = receivers.upgrade() else { return };
        let Some(due) = receivers.due() else { return };
        let store = &*receivers.store;
        stream::iter(due).for_each_concurrent(RENEWALS, |slot| async move { slot.renew(store).await }).await;
    }
}

impl Slot {
    fn new(state: &Arc<ServerState>, id: &SessionId, at: Cursor, version: u64) -> Slot {
        // JSON numbers have 53 bits that every reader keeps.
        let number = fastrand::u64(..1 << 53);
        let version = tokio::sync::Mutex::new(Some(version));
        Slot { state: state.clone(), id: id.clone(), number, at: at.to_string(), version }
    }
}

impl Claim {
    /// What happens if the client goes away before the end of its response.
    pub fn on_interruption(&mut self, interrupted: impl FnOnce(&Info) + Send + 'static) {
        self.interrupted = Some(Box::new(interrupted));
    }

    /// Gives the session back. `at`: the position up to which the response reads. `closed`: how the session ends, if it
    /// ends. If the record cannot be reached, the claim runs out, and the next request goes on from the former position.
    pub async fn give_back(mut self, at: Cursor, closed: Option<&Close>) {
        self.is_given_back = true;
        let Some(version) = self.slot.version.lock().await.take() else { return };
        let (store, id) = (&*self.receivers.store, self.slot.id.secret());
        if let Some(Close { code, reason }) = closed {
            let mode = part(&Mode { closed: Some((*code, reason.clone())) }, self.mode_version);
            let _ = store.swap(id, Part::Mode, &mode, AWAY).await;
        }
        let reader = Reader { at: at.to_string(), holder: None };
        for _ in 0..GIVE_BACK_TRIES {
            if self.slot.change(store, &reader, version, AWAY).await.is_ok() {
                break;
            }
            sleep(LOOK_AWAY).await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.receivers.held.lock().claims.remove(&self.slot.number);
        // While the server shuts down, it is not the client that has gone away.
        if self.is_given_back || self.slot.state.drain.has_begun() {
            return;
        }
        let (slot, receivers) = (self.slot.clone(), self.receivers.clone());
        if let Some(interrupted) = self.interrupted.take() {
            interrupted(&self.info);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let is_open = slot.version.lock().await.take().is_some();
                // Another node may have taken over.
                let Ok(Some(session)) = receivers.find(&slot.id).await else { return };
                if is_open && session.reader.holder.is_some_and(|holder| holder.number == slot.number) {
                    let _ = receivers.store.end(slot.id.secret()).await;
                }
            });
        }
    }
}
