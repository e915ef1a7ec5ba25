//! The head of a long poll with a hole where its cursor stands.
//!
//! A client asks again by the head that it asked by before, and another cursor. What the server has made of that head
//! once it need not make of it again: see [`Waiting::again`](crate::serve::session::long_poll::Waiting::again).

use crate::cursor::Start;
use bytes::Bytes;
use std::cell::RefCell;

/// The longest head that is remembered.
const MOST: usize = 1 << 10;

/// A request's head around its cursor.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    head: Bytes,
    /// Where the cursor begins and ends.
    hole: (usize, usize),
}

impl Shape {
    /// Of a whole head of a request without a body. `None` where it is long, or where it is not plain to see that one
    /// field of the query alone is the cursor.
    pub fn of(head: &Bytes) -> Option<Shape> {
        if head.len() > MOST {
            return None;
        }
        let line = head.split(|byte| *byte == b'\r').next()?;
        let target = line.split(|byte| *byte == b' ').nth(1)?;
        let query = target.splitn(2, |byte| *byte == b'?').nth(1)?;
        let mut hole = None;
        for field in query.split(|byte| *byte == b'&') {
            let (name, value) = field.split_at(field.iter().position(|byte| *byte == b'=')?);
            // A name that has to be decoded may be any.
            if name.contains(&b'%') || name.contains(&b'+') || (name == b"cursor" && hole.is_some()) {
                return None;
            }
            if name == b"cursor" {
                let begin = value.as_ptr() as usize - head.as_ptr() as usize + 1;
                start(&value[1..])?;
                hole = Some((begin, begin + value.len() - 1));
            }
        }
        Some(Shape { head: head.clone(), hole: hole? })
    }

    /// The cursor of a request that begins here and is the same but for its cursor, and how long it is.
    pub fn find(&self, input: &[u8]) -> Option<(Start, usize)> {
        let (before, after) = (&self.head[..self.hole.0], &self.head[self.hole.1..]);
        let rest = input.strip_prefix(before)?;
        let known = LAST.with_borrow(|last| {
            let (text, start) = last.as_ref()?;
            rest.strip_prefix(&text[..])?.starts_with(after).then_some((*start, text.len()))
        });
        if let Some((start, end)) = known {
            return Some((start, before.len() + end + after.len()));
        }
        let end = rest.iter().position(|byte| !is_of_cursor(*byte))?;
        rest[end..].starts_with(after).then_some(())?;
        let start = start(&rest[..end])?;
        LAST.set(Some((rest[..end].into(), start)));
        Some((start, before.len() + end + after.len()))
    }

    /// Whether another head would be found by it, and it by the other.
    pub fn is_like(&self, other: &Shape) -> bool {
        self.head[..self.hole.0] == other.head[..other.hole.0] && self.head[self.hole.1..] == other.head[other.hole.1..]
    }
}

thread_local! {
    /// A cursor as it was written last: those who were told the same ask by the same.
    static LAST: RefCell<Option<(Box<[u8]>, Start)>> = const { RefCell::new(None) };
}

fn is_of_cursor(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-' || byte == b'.'
}

fn start(text: &[u8]) -> Option<Start> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(is_of_cursor))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CURSOR: &str = "17-0.a";

    fn head(query: &str) -> Bytes {
        format!("GET /long-poll?{query} HTTP/1.1\r\nHost: a\r\n\r\n").into()
    }

    #[test]
    fn one_cursor_is_the_hole() {
        for (query, other) in [
            ("channel=a&cursor=latest", "channel=a&cursor=17-0.a"),
            ("cursor=1-1.z&channel=a%3Ab", "cursor=17-0.a&channel=a%3Ab"),
            ("cursor=earliest&x=", "cursor=17-0.a&x="),
        ] {
            let (shape, other) = (Shape::of(&head(query)).expect("a shape"), head(other));
            let expected = Some((Start::After(CURSOR.parse().expect("a cursor")), other.len()));
            assert_eq!(shape.find(&other), expected, "{query}");
            assert!(shape.is_like(&Shape::of(&other).expect("a shape")));
            let more = [&other[..], b"GET /"].concat();
            assert_eq!(shape.find(&more), expected);
            for part in 0..other.len() {
                assert_eq!(shape.find(&other[..part]), None);
            }
        }
    }

    #[test]
    fn what_is_not_plain_has_none() {
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
            assert_eq!(Shape::of(&head(query)), None, "{query}");
        }
        assert_eq!(Shape::of(&head(&format!("cursor=latest&x={}", "x".repeat(MOST)))), None);
    }

    #[test]
    fn another_request_is_not_found() {
        let shape = Shape::of(&head("channel=a&cursor=latest")).expect("a shape");
        for query in [
            "channel=b&cursor=17-0.a",
            "channel=a&cursor=17-0.a&limit=1",
            "channel=a&cursor=17-0.A",
            "channel=a&cursor=17-0.a%20",
            "channel=a&cursor=",
            "channel=a&cursor=17",
        ] {
            assert_eq!(shape.find(&head(query)), None, "{query}");
        }
        assert_eq!(shape.find(b"GET /long-poll?channel=a&cursor=17-0.a HTTP/1.1\r\nHost: b\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_stands_there(query in "[a-c=&%+.0-9-]{0,40}", other in "[a-c=&%+.0-9-]{0,40}") {
            let query = format!("cursor=1-0.a&{query}");
            if let Some(shape) = Shape::of(&head(&query))
                && let Some((start, size)) = shape.find(&head(&other))
            {
                prop_assert_eq!(size, head(&other).len());
                let fields = form_urlencoded::parse(other.as_bytes()).filter(|(name, _)| name == "cursor");
                let cursors: Vec<_> = fields.map(|(_, value)| value.parse::<Start>()).collect();
                prop_assert_eq!(cursors, vec![Ok(start)]);
            }
        }
    }
}
