//! The encodings of messages: the bytes that all receivers of one transport share.

use crate::message::{Encoding, Message};
use crate::wire::sockjs::{frame, transport};
use crate::wire::websocket;

/// An item of a frame, for polls: they put all messages of an answer into one frame.
pub static ITEM: Encoding = Encoding::new("sockjs item", |message, out| frame::item(message.payload(), out));

/// A frame in an XHR stream.
pub static LINE: Encoding = Encoding::new("sockjs line", |message, out| transport::line(&frame(message), out));

/// A frame in an event stream.
pub static EVENT: Encoding = Encoding::new("sockjs event", |message, out| transport::event(&frame(message), out));

/// A frame in a page of htmlfile.
pub static SCRIPT: Encoding = Encoding::new("sockjs script", |message, out| transport::script(&frame(message), out));

/// A frame of SockJS in a frame of WebSocket.
pub static FRAME: Encoding = Encoding::new("sockjs frame", |message, out| {
    let frame = frame(message);
    websocket::text_header(frame.len(), out);
    out.extend_from_slice(&frame);
});

fn frame(message: &Message) -> Vec<u8> {
    let mut item = Vec::with_capacity(message.payload().len() + 2);
    frame::item(message.payload(), &mut item);
    let mut out = Vec::with_capacity(item.len() + 3);
    frame::array(&item, &mut out);
    out
}
