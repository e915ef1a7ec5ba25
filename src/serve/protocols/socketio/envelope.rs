//! What a client of one namespace gets besides messages.

use super::encodings::{Encodings, NamespaceEncoding};
use super::framing::Framing;
use super::packets;
use crate::message::{ClientId, Encoding};
use crate::transport::{CloseReason, Control, Envelope};
use crate::wire::websocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The envelope of one namespace of one connection.
pub struct NamespaceEnvelope {
    framing: Framing,
    namespace: Arc<str>,
    encoding: NamespaceEncoding,
    /// Whether the client knows already that it is connected.
    is_known: bool,
    /// The secret for recovery.
    pid: Option<Arc<str>>,
    /// Whether there was a gap. Engine.IO has no word for it, so the connection ends.
    has_gap: AtomicBool,
}

impl NamespaceEnvelope {
    /// Makes an envelope.
    pub fn new(encodings: &Encodings, framing: Framing, namespace: &Arc<str>) -> NamespaceEnvelope {
        let encoding = encodings.get(framing, namespace);
        let has_gap = AtomicBool::new(false);
        NamespaceEnvelope { framing, namespace: namespace.clone(), encoding, is_known: false, pid: None, has_gap }
    }

    /// The same, for a client that knows that the namespace is connected.
    pub fn known(self) -> NamespaceEnvelope {
        NamespaceEnvelope { is_known: true, ..self }
    }

    /// The same, with the secret for recovery.
    pub fn with_pid(self, pid: Option<Arc<str>>) -> NamespaceEnvelope {
        NamespaceEnvelope { pid, ..self }
    }

    /// Appends the packet that says that the namespace is connected. `client` is the public id of the socket.
    pub fn connected(&self, client: &ClientId, out: &mut Vec<u8>) {
        packets::connected(self.framing, &self.namespace, client, self.pid.as_deref(), out);
    }

    /// Whether there was a gap, so that the connection has to end.
    pub fn has_gap(&self) -> bool {
        self.has_gap.load(Ordering::Relaxed)
    }
}

impl Envelope for NamespaceEnvelope {
    fn encoding(&self) -> &'static Encoding {
        self.encoding.encoding()
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        match control {
            Control::Hello { client, .. } if !self.is_known => self.connected(client, out),
            Control::Bye { bye: CloseReason::SessionEnded, .. } => {
                packets::disconnected(self.framing, &self.namespace, out);
            }
            // The client connects again after a closed transport, but not after a `disconnect`.
            Control::Bye { .. } => out.extend_from_slice(&websocket::empty_close_frame()),
            Control::Gap(_) => self.has_gap.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}
