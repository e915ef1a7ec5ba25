//! A sealed id of a connection that polls: what the next GET has to know, in the id that the client brings. Each answer to
//! a GET has the next id, in a second `open` packet, and clients use the newest one. So a GET needs no record.
//!
//! A connection begins with a record. After the first ping it is offered a sealed id. A client that does not follow goes
//! on with the record. POSTs note in the record what was done, as before; it need not outlive them.

use super::record::{Info, Place, Reader};
use crate::serve::client_sessions::compact::{Input, number, text};
use crate::serve::client_sessions::id::{self, SessionId};
use crate::serve::client_sessions::token::{self, TokenKind};
use crate::serve::state::ServerState;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most namespaces of a connection in a sealed id.
const MAX_PLACES: usize = 64;

/// The bits of a connection.
const OCTETS: u8 = 1;
const TEXT: u8 = 2;
const CLIENT: u8 = 4;

/// The bits of a namespace.
const NEW: u8 = 1;
const SEALED: u8 = 2;
const AT: u8 = 4;
const TOKEN: u8 = 8;

/// A connection, as its client brings it.
#[derive(Clone, Debug)]
pub struct SealedConnection {
    /// The id of the connection.
    pub id: SessionId,
    /// What the handshake has fixed.
    pub info: Info,
    /// What the last GET has read.
    pub reader: Reader,
}

/// Why an id does not open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// It is not honoured.
    Unknown,
    /// The keys cannot be reached.
    Away,
}

impl SealedConnection {
    /// Opens an id.
    ///
    /// # Errors
    ///
    /// The id is not honoured, or the keys cannot be reached.
    pub async fn open(state: &ServerState, brought: &str) -> Result<SealedConnection, NotOpened> {
        let opened = state.sealed.open(TokenKind::Connection, brought).await;
        let bytes = opened.map_err(|bad| if bad.is_some() { NotOpened::Unknown } else { NotOpened::Away })?;
        let (connection, ends_ms) = SealedConnection::read(&bytes).ok_or(NotOpened::Unknown)?;
        if state.hub.log().now_ms() >= ends_ms {
            state.sealed.count_refused(token::BadToken::Expired);
            return Err(NotOpened::Unknown);
        }
        Ok(connection)
    }

    /// Seals the connection. The id is good up to a time of the log's clock. `None` if the id would be too long, or if the
    /// keys cannot be reached.
    pub async fn seal(&self, state: &ServerState, ends_ms: u64) -> Option<String> {
        state.sealed.seal(TokenKind::Connection, self.write(ends_ms)?).await
    }

    fn write(&self, ends_ms: u64) -> Option<Vec<u8>> {
        let SealedConnection { id, info, reader } = self;
        let mut out = id.to_bytes()?.to_vec();
        number(&mut out, ends_ms);
        let bit = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
        out.extend([
            info.version,
            bit(info.octets, OCTETS) | bit(info.text, TEXT) | bit(info.client.is_some(), CLIENT),
        ]);
        info.client.iter().for_each(|client| text(&mut out, client));
        number(&mut out, info.began_ms);
        number(&mut out, reader.pinged_ms);
        text(&mut out, &reader.at);
        number(&mut out, reader.sockets.len() as u64);
        for place in &reader.sockets {
            text(&mut out, &place.namespace);
            out.extend(SessionId::parse(&place.session)?.to_bytes()?);
            out.push(
                bit(place.is_new, NEW)
                    | bit(place.sealed.is_some(), SEALED)
                    | bit(place.at.is_some(), AT)
                    | bit(place.token.is_some(), TOKEN),
            );
            if let Some(sealed) = &place.sealed {
                let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
                number(&mut out, bytes.len() as u64);
                out.extend(bytes);
            }
            place.at.iter().chain(&place.token).for_each(|it| text(&mut out, it));
        }
        Some(out)
    }

    /// Reads a connection, and the end of its id.
    fn read(bytes: &[u8]) -> Option<(SealedConnection, u64)> {
        let mut input = Input(bytes);
        let id = SessionId::from_bytes(input.take(id::BYTES)?.try_into().ok()?);
        let ends_ms = input.number()?;
        let (version, flags) = (input.byte()?, input.flags(OCTETS | TEXT | CLIENT)?);
        let client = if flags & CLIENT != 0 { Some(input.text()?.to_owned()) } else { None };
        let began_ms = input.number()?;
        let info = Info { version, octets: flags & OCTETS != 0, text: flags & TEXT != 0, client, began_ms };
        let pinged_ms = input.number()?;
        let mut reader = Reader { pinged_ms, ..Reader::at(input.text()?.to_owned()) };
        for _ in 0..input.count(MAX_PLACES)? {
            let namespace = input.text()?.to_owned();
            let session = SessionId::from_bytes(input.take(id::BYTES)?.try_into().ok()?).secret().to_string();
            let flags = input.flags(NEW | SEALED | AT | TOKEN)?;
            let mut place = Place { namespace, session, is_new: flags & NEW != 0, ..Place::default() };
            if flags & SEALED != 0 {
                let length = usize::try_from(input.number()?).ok()?;
                place.sealed = Some(URL_SAFE_NO_PAD.encode(input.take(length)?));
            }
            place.at = if flags & AT != 0 { Some(input.text()?.to_owned()) } else { None };
            place.token = if flags & TOKEN != 0 { Some(input.text()?.to_owned()) } else { None };
            reader.sockets.push(place);
        }
        input.0.is_empty().then_some((SealedConnection { id, info, reader }, ends_ms))
    }
}

/// The bytes of a connection, written again.
#[cfg(fuzzing)]
pub fn connection_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (connection, ends_ms) = SealedConnection::read(bytes)?;
    connection.write(ends_ms)
}

impl Info {
    /// The id that the client brings. In versions before 4, the public id of its sockets is in front of it.
    pub fn sid(&self, secret: &str) -> String {
        match &self.client {
            Some(public) => format!("{public}.{secret}"),
            None => secret.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> SealedConnection {
        let id = SessionId::random().expect("an id");
        let place = |namespace: &str, sealed: Option<&str>| Place {
            namespace: namespace.into(),
            session: id.derived(namespace).secret().to_string(),
            at: Some("5-0.a".into()),
            sealed: sealed.map(str::to_owned),
            ..Place::default()
        };
        let sockets =
            vec![place("/", Some("AQIDBA")), Place { is_new: true, token: Some("t".into()), ..place("/é", None) }];
        let info = Info { version: 3, octets: true, text: false, client: Some("me".into()), began_ms: 7 };
        let reader = Reader { sockets, pinged_ms: 9, ..Reader::at("6-1.b".into()) };
        SealedConnection { id, info, reader }
    }

    #[test]
    fn a_connection_is_read_as_it_was_written() {
        let written = connection();
        let bytes = written.write(77).expect("bytes");
        let parts = |(read, ends_ms): (SealedConnection, u64)| (read.id.clone(), format!("{read:?}"), ends_ms);
        let expected = parts((written, 77));
        assert_eq!(SealedConnection::read(&bytes).map(parts), Some(expected.clone()));
        for end in 0..bytes.len() {
            assert!(SealedConnection::read(&bytes[..end]).is_none(), "{end}");
        }
        assert!(SealedConnection::read(&[&bytes[..], &[0]].concat()).is_none());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // It is another one, or none. Nothing panics.
                assert_ne!(SealedConnection::read(&changed).map(parts), Some(expected.clone()), "{at} {bit}");
            }
        }
    }

    #[test]
    fn the_public_id_stands_in_front_of_the_secret() {
        assert_eq!(connection().info.sid("s"), "me.s");
        assert_eq!(Info { client: None, ..connection().info }.sid("s"), "s");
    }
}
