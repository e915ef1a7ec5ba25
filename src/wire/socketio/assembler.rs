//! Joins the text of a packet with the binary parts that follow it.
//!
//! The parts may come in a later post than the text, and at another node. So a packet that is not complete can be taken
//! out, stored and put back.

use bytes::Bytes;

use super::error::{Error, MAX_ATTACHMENTS};
use super::packet::{Packet, Version};
use super::placeholders;

/// A packet with all its binary parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete<'a> {
    /// The packet. Each of its placeholders names another part.
    pub packet: Packet<'a>,
    /// The binary parts.
    pub attachments: Vec<Bytes>,
}

/// A packet that waits for binary parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// The text of the packet, as it came.
    pub text: String,
    /// The parts that have come.
    pub attachments: Vec<Bytes>,
}

/// Reads the packets of a connection.
#[derive(Debug)]
pub struct Assembler {
    version: Version,
    max: usize,
    incomplete: Option<(Incomplete, Packet<'static>)>,
}

impl Assembler {
    /// Makes an assembler. A packet with binary parts may have `max` bytes in all. A text alone is not limited: its
    /// caller has read it and knows its length.
    #[must_use]
    pub fn new(version: Version, max: usize) -> Assembler {
        Assembler { version, max, incomplete: None }
    }

    /// Puts an incomplete packet back.
    ///
    /// # Errors
    ///
    /// The stored text is not a packet that waits for more parts.
    pub fn resume(&mut self, incomplete: Incomplete) -> Result<(), Error> {
        let packet = Packet::parse(&incomplete.text, self.version)?.into_owned();
        if incomplete.attachments.len() >= packet.attachments {
            return Err(Error::Attachments);
        }
        self.incomplete = Some((incomplete, packet));
        Ok(())
    }

    /// Takes the incomplete packet out, to store it.
    pub fn take(&mut self) -> Option<Incomplete> {
        self.incomplete.take().map(|(incomplete, _)| incomplete)
    }

    /// The namespace of the incomplete packet.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.incomplete.as_ref().map(|(_, packet)| &*packet.namespace)
    }

    /// Reads a text. `None` if binary parts have to follow.
    ///
    /// # Errors
    ///
    /// The text is not a packet, or another packet waits for its parts. The connection has to be closed.
    pub fn text<'a>(&mut self, text: &'a str) -> Result<Option<Complete<'a>>, Error> {
        if self.incomplete.is_some() {
            return Err(Error::UnexpectedText);
        }
        let packet = Packet::parse(text, self.version)?;
        if packet.attachments == 0 {
            return complete(packet, Vec::new()).map(Some);
        }
        if text.len() > self.max {
            return Err(Error::TooLong);
        }
        let incomplete = Incomplete { text: text.to_owned(), attachments: Vec::with_capacity(packet.attachments) };
        self.incomplete = Some((incomplete, packet.into_owned()));
        Ok(None)
    }

    /// Reads a binary part. `None` if more parts have to follow.
    ///
    /// # Errors
    ///
    /// No packet waits for a part, or the packet is wrong or too long. The connection has to be closed.
    pub fn binary(&mut self, part: Bytes) -> Result<Option<Complete<'static>>, Error> {
        let (mut incomplete, packet) = self.incomplete.take().ok_or(Error::UnexpectedBinary)?;
        incomplete.attachments.push(part);
        if incomplete.size() > self.max {
            return Err(Error::TooLong);
        }
        if incomplete.attachments.len() < packet.attachments {
            self.incomplete = Some((incomplete, packet));
            return Ok(None);
        }
        complete(packet, incomplete.attachments).map(Some)
    }
}

impl Incomplete {
    /// The bytes that the packet has so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

fn complete(packet: Packet<'_>, attachments: Vec<Bytes>) -> Result<Complete<'_>, Error> {
    // In a packet of another type an object that looks like a placeholder is data.
    let json = packet.json.as_deref().filter(|_| packet.kind.is_binary()).unwrap_or_default();
    // A part has one place. If several places named it, a short packet would grow beyond all limits when it is joined.
    let mut is_used = [false; MAX_ATTACHMENTS];
    for place in placeholders::find(json) {
        let is_part = place.index < attachments.len();
        match is_used.get_mut(place.index).filter(|is_used| is_part && !**is_used) {
            Some(is_used) => *is_used = true,
            None => return Err(Error::Placeholder),
        }
    }
    Ok(Complete { packet, attachments })
}
