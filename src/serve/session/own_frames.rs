//! Frames that a command of a client sends to that client alone.

use super::pump::Pump;
use crate::message::Message;
use crate::transport::{CloseReason, Control};

/// Sends a message to the client of a pump alone.
pub fn echo(pump: &mut Pump, message: &Message) {
    let mut out = Vec::with_capacity(message.payload().len() + 32);
    pump.envelope().message(message, &mut out);
    pump.push_frame(out.into());
}

/// Ends a stream because the client wants that. The answer to its command is a part of the farewell, which comes after
/// the answers to earlier commands.
pub fn leave(pump: &mut Pump, reference: Option<&str>) {
    let mut out = Vec::with_capacity(128);
    pump.envelope().control(&Control::Pong { reference }, &mut out);
    let bye = Control::Bye { bye: CloseReason::SessionEnded, retry: None, cursor: None };
    pump.envelope().control(&bye, &mut out);
    pump.end(out.into());
}
