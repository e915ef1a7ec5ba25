//! The head of a long poll with a placeholder for the cursor.
//!
//! A client polls again with the same head and another cursor. The server can then use its earlier decisions about the
//! head again: see [`LongPoll::repeat`](super::long_poll::LongPoll::repeat).

use crate::cursor::Start;
use crate::serve::http::head_template::{ByteSet, HeadTemplate, Hole};
use bytes::Bytes;
use std::cell::RefCell;

static CURSOR: ByteSet = ByteSet::letters_and(b"-.", false);

/// The parts of a request's head before and after its cursor.
pub struct PollTemplate(HeadTemplate<1>);

impl PollTemplate {
    /// A template of the whole head of a request without a body. `None` if the head is long, or if it is not obvious
    /// that exactly one field of the query is the cursor.
    pub fn of(head: &Bytes) -> Option<PollTemplate> {
        let line = head.split(|byte| *byte == b'\r').next()?;
        let target = line.split(|byte| *byte == b' ').nth(1)?;
        let query = target.splitn(2, |byte| *byte == b'?').nth(1)?;
        let mut hole = None;
        for field in query.split(|byte| *byte == b'&') {
            let (name, value) = field.split_at(field.iter().position(|byte| *byte == b'=')?);
            // A percent-encoded name could represent any name.
            if name.contains(&b'%') || name.contains(&b'+') || (name == b"cursor" && hole.is_some()) {
                return None;
            }
            if name == b"cursor" {
                let begin = value.as_ptr() as usize - head.as_ptr() as usize + 1;
                parse(&value[1..])?;
                hole = Some(Hole { at: begin..begin + value.len() - 1, accepts: &CURSOR });
            }
        }
        HeadTemplate::new(head, [hole?]).map(PollTemplate)
    }

    /// Matches the beginning of the input. Returns the cursor and the length of the head.
    pub fn find(&self, input: &[u8]) -> Option<(Start, usize)> {
        let ([text], size) = self.0.find(input)?;
        let known =
            LAST.with_borrow(|last| last.as_ref().filter(|(known, _)| **known == *text).map(|(_, start)| *start));
        if let Some(start) = known {
            return Some((start, size));
        }
        let start = parse(text)?;
        LAST.set(Some((text.into(), start)));
        Some((start, size))
    }

    /// Whether both templates match the same heads.
    pub fn is_same(&self, other: &PollTemplate) -> bool {
        self.0.is_same(&other.0)
    }
}

thread_local! {
    /// The cursor that was parsed last is cached, because clients that got the same answer poll with the same cursor.
    static LAST: RefCell<Option<(Box<[u8]>, Start)>> = const { RefCell::new(None) };
}

fn parse(text: &[u8]) -> Option<Start> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| CURSOR.has(byte)))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::head_template::MAX_TEMPLATE;
    use proptest::prelude::*;

    const CURSOR: &str = "17-0.a";

    fn head(query: &str) -> Bytes {
        format!("GET /long-poll?{query} HTTP/1.1\r\nHost: a\r\n\r\n").into()
    }

    #[test]
    fn the_cursor_is_the_hole() {
        for (query, other) in [
            ("channel=a&cursor=latest", "channel=a&cursor=17-0.a"),
            ("cursor=1-1.z&channel=a%3Ab", "cursor=17-0.a&channel=a%3Ab"),
            ("cursor=earliest&x=", "cursor=17-0.a&x="),
        ] {
            let (template, other) = (PollTemplate::of(&head(query)).expect("a template"), head(other));
            let expected = Some((Start::After(CURSOR.parse().expect("a cursor")), other.len()));
            assert_eq!(template.find(&other), expected, "{query}");
            assert!(template.is_same(&PollTemplate::of(&other).expect("a template")));
            let more = [&other[..], b"GET /"].concat();
            assert_eq!(template.find(&more), expected);
            for part in 0..other.len() {
                assert_eq!(template.find(&other[..part]), None);
            }
        }
    }

    #[test]
    fn a_query_that_is_not_plain_makes_no_template() {
        for query in [
            "channel=a",
            "channel=a&cursor=latest&cursor=latest",
            "channel=a&cursor=latest&c%75rsor=earliest",
            "channel=a&cursor=latest&cur+sor=x",
            "channel=a&cursor=lat%65st",
            "channel=a&cursor=",
            "channel=a&cursor",
            "channel=a&cursor=1",
        ] {
            assert!(PollTemplate::of(&head(query)).is_none(), "{query}");
        }
        assert!(PollTemplate::of(&head(&format!("cursor=latest&x={}", "x".repeat(MAX_TEMPLATE)))).is_none());
    }

    #[test]
    fn another_request_is_not_found() {
        let template = PollTemplate::of(&head("channel=a&cursor=latest")).expect("a template");
        for query in [
            "channel=b&cursor=17-0.a",
            "channel=a&cursor=17-0.a&limit=1",
            "channel=a&cursor=17-0.A",
            "channel=a&cursor=17-0.a%20",
            "channel=a&cursor=",
            "channel=a&cursor=17",
        ] {
            assert_eq!(template.find(&head(query)), None, "{query}");
        }
        assert_eq!(template.find(b"GET /long-poll?channel=a&cursor=17-0.a HTTP/1.1\r\nHost: b\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_stands_there(query in "[a-c=&%+.0-9-]{0,40}", other in "[a-c=&%+.0-9-]{0,40}") {
            let query = format!("cursor=1-0.a&{query}");
            if let Some(template) = PollTemplate::of(&head(&query))
                && let Some((start, size)) = template.find(&head(&other))
            {
                prop_assert_eq!(size, head(&other).len());
                let fields = form_urlencoded::parse(other.as_bytes()).filter(|(name, _)| name == "cursor");
                let cursors: Vec<_> = fields.map(|(_, value)| value.parse::<Start>()).collect();
                prop_assert_eq!(cursors, vec![Ok(start)]);
            }
        }
    }
}
