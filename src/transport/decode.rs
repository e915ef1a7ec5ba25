//! The input of a client of a duplex transport.

use super::{ApiError, Dialect};
use bytes::{Bytes, BytesMut};

/// Decodes the input of a client of a duplex transport.
pub trait Decode: Send {
    /// Takes the next whole input from the front of `buf`; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The client has violated the framing. No more input can be read.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation>;

    /// The dialect that parses the commands; `None` if the protocol parses them itself.
    fn dialect(&mut self) -> Option<&mut dyn Dialect>;

    /// Returns the number of bytes of an incomplete input that the decoder keeps, besides the bytes that it has left in
    /// `buf`.
    fn held(&self) -> usize {
        0
    }

    /// The last bytes to send after a command that ends the connection, such as one that was too large.
    fn too_large(&self) -> Bytes {
        Bytes::new()
    }

    /// Returns the last input when the client will not send more.
    fn rest(&mut self, _buf: &mut BytesMut) -> Option<Input> {
        None
    }
}

/// One input of a duplex client.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A command. The [dialect](Decode::dialect) parses it.
    Command(Bytes),
    /// The bytes of a pong, which have to be sent back.
    Reply(Bytes),
    /// The input does not need an action.
    Nothing,
    /// The client closes the connection: these bytes are sent back, and then the connection ends.
    Close(Bytes),
    /// A request for the policy file, which a Flash player or an applet sends.
    PolicyRequest,
}

/// A violation of a duplex transport's framing by a client, with the bytes to send before the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct ProtocolViolation {
    /// The error, which is sent first as an `error` object if the client can still read one.
    pub error: Option<ApiError>,
    /// The last bytes (a close frame).
    pub farewell: Bytes,
}
