//! A POST that connects a namespace.

use super::entries::ConnectionEntry;
use super::opening::{self, Wanted, public_id, public_part};
use super::packets;
use super::poll::Refused;
use super::post::{Posting, Stop};
use super::record::Place;
use super::recovery::{self, Remembered};
use super::sockets::MAX_SOCKETS;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::state::SessionState;
use crate::transport::{ApiError, Code};
use crate::wire::socketio::assembler::Complete;
use crate::wire::socketio::packet::Version;

use Stop::Broken;

impl Posting<'_> {
    /// Connects a namespace that the connection has already, as far as this part of the record knows.
    pub(super) async fn connect_again(
        &mut self,
        index: usize,
        packet: &Complete<'_>,
        namespace: String,
    ) -> Result<(), Stop> {
        let place = self.writer.sockets[index].clone();
        let this = self.polling.t.map(|t| (t.to_owned(), self.index));
        if self.is_repeated && place.by.is_some() && place.by == this {
            // The first request may have died before it could tell the reader.
            return self.tell(place).await;
        }
        // The application may have ended the socket.
        match self.polling.find(&place, true).await {
            Ok(_) if self.version == Version::V4 => Ok(()),
            Ok(_) => Err(Broken),
            Err(error) if error.code == Code::NoSession => {
                self.writer.sockets.remove(index);
                self.sessions.remove(&namespace);
                self.connect(packet, namespace).await
            }
            Err(_) => Err(Stop::Refused(Refused::Away)),
        }
    }

    pub(super) async fn connect(&mut self, packet: &Complete<'_>, namespace: String) -> Result<(), Stop> {
        let (state, shared) = (self.polling.state.clone(), self.polling.shared.clone());
        self.writer.was_used = true;
        let token = opening::token(packet.packet.json.as_deref(), packet.packet.query.as_deref());
        let wanted = token.and_then(|token| Ok((self.wanted(packet, &namespace, token.as_deref())?, token)));
        let (at, opened, token) = match wanted {
            Ok(((remembered, wanted), token)) => {
                let (at, opened) = recovery::recover_or_open(state, shared, remembered, wanted).await;
                (at, opened, token)
            }
            Err(error) => (None, Err(error), None),
        };
        match opened {
            Ok(session) => {
                let (at, sealed) = (Some(at.unwrap_or(session.cursor).to_string()), self.sealed(&session).await?);
                let by = self.polling.t.map(|t| (t.to_owned(), self.index));
                let session = session.id.secret().to_string();
                let place = Place { namespace, session, at, is_new: false, token, sealed, by };
                self.writer.sockets.push(place.clone());
                // From here on, a repeated POST finds the socket.
                self.claim.lock().await.note(self.polling, &self.writer).await.map_err(Stop::Refused)?;
                self.tell(place).await
            }
            Err(error) => {
                self.polling.state.rejections.count(error.code);
                let packet = packets::refused(self.client.framing, &namespace, &error);
                self.append(ConnectionEntry::of_packet(packet)).await
            }
        }
    }

    /// Tells the reader about a socket.
    async fn tell(&mut self, place: Place) -> Result<(), Stop> {
        let Place { namespace, session, at, token, sealed, .. } = place;
        let at = at.unwrap_or_default();
        self.append(ConnectionEntry::Socket { namespace, session, at, token, sealed }).await
    }

    /// The sealed bookmark of a session that has begun; `None` if it is in the record.
    async fn sealed(&mut self, session: &SessionState) -> Result<Option<String>, Stop> {
        let kept = self.polling.state.bookmarks(session.bookmarks).keep(session).await;
        let kept = kept.map_err(|_| Stop::Refused(Refused::Away))?;
        Ok(SessionId::parse(&kept).is_none().then(|| kept.to_string()))
    }

    fn wanted(
        &self,
        packet: &Complete<'_>,
        namespace: &str,
        token: Option<&str>,
    ) -> Result<(Option<Remembered>, Wanted), ApiError> {
        if self.writer.sockets.len() >= MAX_SOCKETS {
            return Err(ApiError::new(Code::TooManyConnections, "the connection has too many namespaces"));
        }
        // The ids follow from the packet, so that a repeated POST has the same ones, for the application, too.
        let derived = |what: &str| self.key().map(|key| self.polling.id.derived(&format!("{what}:{key}")));
        let client = || derived("client").and_then(|id| public_part(&id)).or_else(public_id);
        let client = self.client.id.clone().or_else(client);
        let client = client.ok_or_else(|| ApiError::new(Code::NotReady, "there are no random numbers"))?;
        let auth = packet.packet.json.as_deref();
        let mut connect = self.client.connect.clone();
        let recovered = auth.filter(|_| self.polling.shared.settings.recovery).and_then(recovery::take);
        let (remembered, rest) = recovered.unzip();
        connect.auth = rest.or_else(|| auth.and_then(|auth| serde_json::from_str(auth).ok()));
        opening::add_query(&mut connect, packet.packet.query.as_deref());
        let credentials = opening::with_token(&self.client.credentials, token);
        let session = derived("session");
        Ok((
            remembered,
            Wanted {
                namespace: namespace.into(),
                session,
                client,
                credentials,
                connect,
                bookmarks: self.polling.bookmarks(),
            },
        ))
    }
}
