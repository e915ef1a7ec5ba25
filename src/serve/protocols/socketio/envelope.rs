//! What a client of one namespace gets besides messages.

use super::encodings::Encodings;
use super::framing::Framing;
use crate::message::{ClientId, Encoding};
use crate::transport::{CloseReason, Control, Envelope};
use crate::wire::socketio::encode;
use crate::wire::socketio::packet::Version;
use crate::wire::websocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The envelope of one namespace of one connection.
pub struct NamespaceEnvelope {
    framing: Framing,
    namespace: Arc<str>,
    encoding: &'static Encoding,
    /// Whether the client knows already that it is connected.
    is_known: bool,
    /// Whether there was a gap. Engine.IO has no word for it, so the connection ends.
    has_gap: AtomicBool,
}

impl NamespaceEnvelope {
    /// Makes an envelope; `None` if this node has clients of too many namespaces.
    pub fn new(encodings: &Encodings, framing: Framing, namespace: &Arc<str>) -> Option<NamespaceEnvelope> {
        let encoding = encodings.get(framing, namespace)?;
        let has_gap = AtomicBool::new(false);
        Some(NamespaceEnvelope { framing, namespace: namespace.clone(), encoding, is_known: false, has_gap })
    }

    /// The same, for a client that knows that the namespace is connected.
    pub fn known(self) -> NamespaceEnvelope {
        NamespaceEnvelope { is_known: true, ..self }
    }

    /// Appends the packet that says that the namespace is connected. `client` is the public id of the socket.
    pub fn connected(&self, client: &ClientId, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        match self.framing.version() {
            Version::V5 => encode::connect_v5(&self.namespace, &client.to_string(), None, &mut text),
            Version::V4 => encode::connect_v4(&self.namespace, &mut text),
        }
        self.framing.message(&text, &[], out);
    }

    /// Whether there was a gap, so that the connection has to end.
    pub fn has_gap(&self) -> bool {
        self.has_gap.load(Ordering::Relaxed)
    }
}

impl Envelope for NamespaceEnvelope {
    fn encoding(&self) -> &'static Encoding {
        self.encoding
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        match control {
            Control::Hello { client, .. } if !self.is_known => return self.connected(client, out),
            Control::Bye { bye: CloseReason::SessionEnded, .. } => encode::disconnect(&self.namespace, &mut text),
            // The client connects again after a closed transport, but not after a `disconnect`.
            Control::Bye { .. } => return out.extend_from_slice(&websocket::empty_close_frame()),
            Control::Gap(_) => return self.has_gap.store(true, Ordering::Relaxed),
            _ => return,
        }
        self.framing.message(&text, &[], out);
    }
}
