//! The data that long polls share: heads, templates, and the last response.

use super::outlet::answer_format;
use super::poll_answer::PollAnswer;
use super::poll_template::PollTemplate;
use crate::cursor::Cursor;
use crate::hub::{Format, OwnedFormat};
use crate::message::Message;
use crate::serve::http::head::write_head;
use crate::transport::{Batch, Envelope};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use std::sync::Arc;

/// The maximum number of heads and templates that polls share at a time. There is a limit, because a response's head
/// contains the origin, which the client chooses.
const SHARED: usize = 8;

/// The data that long polls share.
#[derive(Default)]
pub struct PollCache {
    heads: Mutex<Vec<Arc<[u8]>>>,
    templates: Mutex<Vec<Arc<PollTemplate>>>,
    last: Mutex<Option<(Key, PollAnswer)>>,
}

/// The parts that a response depends on.
struct Key {
    head: Arc<[u8]>,
    format: OwnedFormat,
    /// The messages themselves. The first and last message are not enough, because two batches may have the same first
    /// and last message and still differ.
    messages: Vec<Arc<Message>>,
    cursor: Cursor,
    is_last: bool,
}

impl Key {
    fn is(&self, head: &[u8], format: Format<'_>, batch: &Batch, is_last: bool) -> bool {
        self.cursor == batch.cursor
            && self.is_last == is_last
            && self.messages.len() == batch.messages.len()
            && self.messages.iter().zip(&batch.messages).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
            && self.format.is(format)
            && *self.head == *head
    }
}

impl PollCache {
    /// Returns the status line and the headers of a response, without headers that depend on the batch. Equal heads
    /// share their memory, so that a parked poll keeps only a pointer.
    pub fn head(&self, status: StatusCode, headers: &HeaderMap) -> Arc<[u8]> {
        let mut head = Vec::with_capacity(512);
        write_head(status, headers, &mut head);
        let mut heads = self.heads.lock();
        if let Some(known) = heads.iter().find(|known| ***known == *head) {
            return known.clone();
        }
        if heads.len() == SHARED {
            heads.remove(0);
        }
        heads.push(head.into());
        heads[heads.len() - 1].clone()
    }

    /// Returns the template of a request's head. Templates that match the same heads share their memory.
    pub fn template(&self, head: &Bytes) -> Option<Arc<PollTemplate>> {
        let template = PollTemplate::of(head)?;
        let mut templates = self.templates.lock();
        if let Some(known) = templates.iter().find(|known| known.is_same(&template)) {
            return Some(known.clone());
        }
        if templates.len() == SHARED {
            templates.remove(0);
        }
        templates.push(Arc::new(template));
        templates.last().cloned()
    }

    /// Returns the response to a poll. Polls that get the same response share its bytes.
    pub fn answer(&self, head: &Arc<[u8]>, envelope: &dyn Envelope, batch: &Batch, is_last: bool) -> PollAnswer {
        // Polls do not share such responses. A gap names the cursor of one client, and clients may request an empty
        // batch again much later.
        if batch.gap.is_some() || batch.messages.is_empty() {
            return PollAnswer::new(head, envelope, batch, is_last);
        }
        let format = answer_format(envelope);
        let mut last = self.last.lock();
        match &*last {
            Some((known, answer)) if known.is(head, format, batch, is_last) => answer.clone(),
            _ => {
                let answer = PollAnswer::new(head, envelope, batch, is_last);
                let (head, format, cursor) = (head.clone(), format.to_owned(), batch.cursor);
                let key = Key { head, format, messages: batch.messages.clone(), cursor, is_last };
                *last = Some((key, answer.clone()));
                answer
            }
        }
    }
}
