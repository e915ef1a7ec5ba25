//! The sockets of a client that has polled before it has changed to a WebSocket.

use super::entries::ConnectionEntry;
use super::opening;
use super::packets;
use super::record::{Place, Reader};
use super::sockets::{Done, Socket, Sockets};
use crate::cursor::{Cursor, Start};
use crate::hub::{LIMIT, Step, Subscription};
use crate::message::Message;
use crate::serve::client_sessions::address::own_channel;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::events::connect;
use crate::transport::Code;
use crate::wire::engineio::PacketType as EngineType;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the log may take to return older messages.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// Reads the messages of a subscription up to a position that the node has reached. `None`: they are not known.
pub async fn read_up_to(subscription: &mut Subscription, end: Cursor) -> Option<Vec<Arc<Message>>> {
    let mut messages = Vec::new();
    loop {
        let step = poll_fn(|cx| subscription.poll_step(cx, LIMIT, &mut messages));
        let step = timeout(LOG_WAIT, step).await.ok()?;
        let at = subscription.cursor();
        match step {
            Step::Gap(_) => return None,
            _ if at.epoch != end.epoch || at.id >= end.id => return Some(messages),
            Step::Messages => {}
            Step::Idle | Step::Ahead => return None,
        }
    }
}

impl Sockets {
    /// Goes on with the sockets of a client that has polled before. Returns false if one of them cannot go on.
    pub async fn resume(&mut self, id: &SessionId, reader: &Reader) -> bool {
        let (Ok(at), Some(own)) = (reader.at.parse(), own_channel(id)) else { return false };
        self.left = Some(self.state.hub.subscribe(None, &[own], Start::After(at), None, None));
        let Some(entries) = self.read_left().await else { return false };
        // The client has left these namespaces itself.
        let left = |namespace: &str| {
            let is_it =
                |entry: &ConnectionEntry| matches!(entry, ConnectionEntry::Left { namespace: it } if it == namespace);
            entries.iter().any(is_it)
        };
        for Place { namespace, session, at, is_new, token, .. } in &reader.sockets {
            let Some(at) = at.as_ref().and_then(|at| at.parse().ok()) else { return false };
            if left(namespace) {
                continue;
            }
            match connect::find_at(&self.state, session, at, CLOSED).await {
                Ok(found) => {
                    let publisher = opening::with_token(&self.client.credentials, token.as_deref());
                    self.opened(&namespace.as_str().into(), publisher, found, at, !is_new);
                }
                Err(error) if error.code == Code::NoSession => self.disconnected(namespace),
                Err(_) => return false,
            }
        }
        entries.into_iter().for_each(|entry| self.entry(entry));
        true
    }

    /// Reads what requests of the time of polling have left, up to the end of the log. `None`: that cannot be known.
    async fn read_left(&mut self) -> Option<Vec<ConnectionEntry>> {
        let end = connect::reach_end(&self.state).await.ok()?;
        let messages = read_up_to(self.left.as_mut()?, end).await?;
        Some(messages.iter().filter_map(|message| ConnectionEntry::read(message)).collect())
    }

    fn disconnected(&mut self, namespace: &str) {
        packets::disconnected(self.client.framing, namespace, &mut self.out);
    }

    /// Carries out an entry that a request of the time of polling has left.
    pub(super) fn entry(&mut self, entry: ConnectionEntry) {
        let framing = self.client.framing;
        match entry {
            // A client that changes to a WebSocket has no sealed bookmarks.
            ConnectionEntry::Socket { namespace, session, at, token, .. } => {
                let (state, publisher) =
                    (self.state.clone(), opening::with_token(&self.client.credentials, token.as_deref()));
                let namespace: Arc<str> = namespace.into();
                // A repeated POST tells of a socket once more.
                let is_it = |socket: &mut Socket| socket.session().is_some_and(|it| **it.id.secret() == *session);
                if self.connecting.contains(&namespace) || self.connected.iter_mut().any(is_it) {
                    return;
                }
                if let Some(index) = self.connected.iter().position(|socket| *socket.namespace == *namespace) {
                    self.remove(index, "client namespace disconnect");
                }
                self.connecting.push(namespace.clone());
                self.tasks.push(Box::pin(async move {
                    let at: Option<Cursor> = at.parse().ok();
                    let found = match at {
                        Some(at) => connect::find_at(&state, &session, at, CLOSED).await,
                        None => Err(state.sessions.unknown()),
                    };
                    Done::Opened(namespace, publisher, at, Box::new(found))
                }));
            }
            ConnectionEntry::Packet { text, parts } => {
                framing.message(text.as_bytes(), &ConnectionEntry::parts(parts), &mut self.out);
            }
            ConnectionEntry::Pong { data } => framing.packet(EngineType::Pong, &data, &mut self.out),
            ConnectionEntry::Left { namespace } => {
                if let Some(index) = self.connected.iter().position(|socket| *socket.namespace == *namespace) {
                    self.remove(index, "client namespace disconnect");
                }
            }
            ConnectionEntry::Wake | ConnectionEntry::Closed | ConnectionEntry::Gone => {}
        }
    }
}
