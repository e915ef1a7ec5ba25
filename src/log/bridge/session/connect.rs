//! Chooses the server that a session subscribes to, and connects to it.

use super::state::{ANSWER_TIMEOUT, Ended, Session, UnreachableServer, timed_out};
use crate::log::bridge::member::{Request, Want};
use crate::log::bridge::script::{self, Server};
use crate::log::redis::{BRIDGE, ScriptError};
use redis::Client;
use redis::aio::{PubSubSink, PubSubStream};
use std::time::Duration;
use tokio::time::Instant;

/// How long a node waits for a sign of life from the members that listen to a server of a Cluster. After this time the
/// server counts as lost, if it does not answer this node either.
const SILENCE: Duration = Duration::from_secs(2);

impl Session {
    /// Chooses the server to subscribe to. Without a Cluster that is the server of the log.
    ///
    /// In a Cluster each server delivers the PUBLISHes of all servers, in an order of its own. So all members count at
    /// one server, and stay there as long as it lives, even if another server owns the log's slot.
    pub(super) async fn choose_server(&mut self, unreachable: &mut UnreachableServer) -> Result<Client, Ended> {
        let mut control = self.log.connect(ANSWER_TIMEOUT).await.map_err(Ended::Unsubscribed)?;
        // A Redis that is loading its data accepts subscribers and PUBLISHes, but does not run scripts. A message that
        // arrives before the join does not have a number. Loading the script first also makes the join a single round
        // trip.
        control.load(&BRIDGE).await.map_err(Ended::Unsubscribed)?;
        let (client, run_id) = control.server();
        let client = client.clone();
        let (is_cluster, address) = (control.is_cluster(), control.address().to_owned());
        self.server = Server { run_id: run_id.to_owned(), address, is_cluster, instead_of: String::new() };
        if !is_cluster {
            self.control = Some(control);
            return Ok(client);
        }
        let look = Request { want: Want::Finish, ..Request::default() };
        let args = self.args(&look);
        let keys = [&self.log.keys().log, &self.keys[0], &self.keys[1]].map(String::as_str);
        let reply = control.run(&BRIDGE, &keys, &args).await.map_err(Ended::Unsubscribed)?;
        self.control = Some(control);
        let state = script::state(&reply).ok_or(Ended::Unsubscribed(ScriptError::Unexpected))?;
        if state.server.is_empty() || state.server == self.server.run_id {
            *unreachable = None;
            return Ok(client);
        }
        let (why, is_silent) = match self.log.connect_to(&state.address, ANSWER_TIMEOUT).await {
            Ok(connection) if connection.server().1 == state.server => {
                *unreachable = None;
                self.server.address.clone_from(&state.address);
                self.server.run_id = state.server;
                return Ok(connection.server().0.clone());
            }
            // Another process has the server's address now, so the server has ended.
            Ok(_) => (ScriptError::Unexpected, false),
            Err(error) => {
                let is_silent = error.is_timeout();
                (error, is_silent)
            }
        };
        // A server that refuses the connection has ended. If a server does not answer, perhaps only this node cannot
        // reach it.
        let now = Instant::now();
        let (server, alive, since) = unreachable.get_or_insert((state.server.clone(), state.alive.clone(), now));
        if *server != state.server || *alive != state.alive {
            (*server, *alive, *since) = (state.server.clone(), state.alive.clone(), now);
        }
        if is_silent && now - *since < SILENCE {
            return Err(Ended::Unreachable(why));
        }
        *unreachable = None;
        self.server.instead_of = state.server;
        Ok(client)
    }

    pub(super) async fn subscribe(
        &self,
        client: &Client,
        globs: &[String],
    ) -> Result<(PubSubSink, PubSubStream), Ended> {
        let volatile = self.log.keys().volatile();
        let opening = tokio::time::timeout(ANSWER_TIMEOUT, client.get_async_pubsub()).await;
        let unconnected = |error| Ended::Unsubscribed(ScriptError::Unconnected(error));
        let (sink, stream) = opening.map_err(|_| timed_out())?.map_err(unconnected)?.split();
        if self.server.is_cluster {
            // Without a Cluster the join goes to the server itself. In a Cluster another process could have the
            // server's address by now.
            let again = self.log.connect_to(&self.server.address, ANSWER_TIMEOUT).await.map_err(Ended::Unsubscribed)?;
            if again.server().1 != self.server.run_id {
                return Err(Ended::Moved);
            }
        }
        // Messages that arrive between the subscription and the marker do not have a number, so both commands are sent
        // at once. The markers' channel comes last: a member that receives a marker of any member must also receive all
        // messages after it.
        let (mut sink, mut last) = (sink.clone(), sink);
        let channels = [volatile, self.markers.clone()];
        let to_patterns = async { if globs.is_empty() { Ok(()) } else { sink.psubscribe(globs).await } };
        let subscribing = futures_util::future::try_join(to_patterns, last.subscribe(&channels));
        let subscribed = tokio::time::timeout(ANSWER_TIMEOUT, subscribing).await;
        subscribed.map_err(|_| timed_out())?.map_err(unconnected)?;
        Ok((last, stream))
    }
}
