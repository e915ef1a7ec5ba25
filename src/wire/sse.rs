//! Server-sent events (WHATWG HTML, 9.2.6 "Interpreting an event stream").
//!
//! Lines end in LF. One space follows the colon of each field, and the client drops this space.

/// Appends one event.
///
/// `event: ` (unless `None`: the client then fires `message`), `id: `, one `data: ` line for each line of `data`, and
/// the blank line that dispatches the event. CR, LF and CRLF each end a line of `data`, and the client gets each of
/// them as LF.
pub fn block(event: Option<&str>, id: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len() + 64);
    if let Some(event) = event {
        field("event", event, out);
    }
    if let Some(id) = id {
        field("id", id, out);
    }
    let mut rest = data;
    // Without a data line the client would not dispatch the event, so empty data gives one empty data line.
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        line("data", &rest[..at], out);
        let end = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[at + end..];
    }
    line("data", rest, out);
    out.push(b'\n');
}

/// Appends a comment, and a block that sets the client's last event id without firing an event (a block without
/// `data`). The comment is a sign of life for clients that check the raw bytes.
pub fn id_only(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b": \n");
    field("id", id, out);
    out.push(b'\n');
}

/// Appends a comment line with `n` spaces, to push earlier bytes through a proxy that holds back small writes.
pub fn comment_padding(n: usize, out: &mut Vec<u8>) {
    out.push(b':');
    out.resize(out.len() + n, b' ');
    out.push(b'\n');
}

/// Appends the reconnection time in milliseconds.
pub fn retry(ms: u64, out: &mut Vec<u8>) {
    field("retry", &ms.to_string(), out);
    out.push(b'\n');
}

fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    // A CR or LF in an event name or id would begin a new field. It is dropped, so that even a value that was never
    // checked cannot inject a field.
    if memchr::memchr2(b'\r', b'\n', value.as_bytes()).is_some() {
        return line(name, value.replace(['\r', '\n'], "").as_bytes(), out);
    }
    line(name, value.as_bytes(), out);
}

/// Appends a line. `value` must not contain a line end.
fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client that follows section 9.2.6.
    #[derive(Debug, Default, PartialEq)]
    struct Client {
        /// (type, data, last event id)
        events: Vec<(String, String, String)>,
        last_id: String,
        retry: Option<u64>,
    }

    impl Client {
        fn read(stream: &[u8]) -> Self {
            let stream = std::str::from_utf8(stream).expect("UTF-8").replace("\r\n", "\n").replace('\r', "\n");
            let mut client = Self::default();
            let (mut event, mut data, mut id) = (String::new(), String::new(), String::new());
            // The text after the last line end is not a line.
            let mut lines: Vec<_> = stream.split('\n').collect();
            lines.pop();
            for line in lines {
                if line.is_empty() {
                    client.last_id.clone_from(&id);
                    let (event, mut data) = (std::mem::take(&mut event), std::mem::take(&mut data));
                    if data.pop().is_some() {
                        let kind = if event.is_empty() { "message".to_owned() } else { event };
                        client.events.push((kind, data, id.clone()));
                    }
                    continue;
                }
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match name {
                    "event" => value.clone_into(&mut event),
                    "data" => {
                        data.push_str(value);
                        data.push('\n');
                    }
                    "id" if !value.contains('\0') => value.clone_into(&mut id),
                    "retry" => client.retry = value.parse().ok(),
                    _ => {}
                }
            }
            client
        }
    }

    fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn bytes() {
        assert_eq!(encoded(|out| block(None, None, b"", out)), "data: \n\n");
        assert_eq!(
            encoded(|out| block(Some("hello"), Some("1-0.a"), b"{}", out)),
            "event: hello\nid: 1-0.a\ndata: {}\n\n"
        );
        assert_eq!(
            encoded(|out| block(None, None, b"a\r\nb\rc\n\n d\r", out)),
            "data: a\ndata: b\ndata: c\ndata: \ndata:  d\ndata: \n\n"
        );
        assert_eq!(encoded(|out| id_only("1-0.a", out)), ": \nid: 1-0.a\n\n");
        assert_eq!(encoded(|out| comment_padding(4, out)), ":    \n");
        assert_eq!(encoded(|out| retry(3000, out)), "retry: 3000\n\n");
    }

    #[test]
    fn an_id_alone_fires_nothing() {
        let mut out = Vec::new();
        block(None, Some("1"), b"a", &mut out);
        id_only("2", &mut out);
        comment_padding(2048, &mut out);
        retry(1, &mut out);
        let client = Client::read(&out);
        assert_eq!(client.events, [("message".to_owned(), "a".to_owned(), "1".to_owned())]);
        assert_eq!((client.last_id.as_str(), client.retry), ("2", Some(1)));
    }

    #[test]
    fn names_and_ids_inject_no_field() {
        let mut out = Vec::new();
        block(Some("a\ndata: x\n\n"), Some("1\r\rdata: y"), b"z", &mut out);
        let client = Client::read(&out);
        assert_eq!(client.events, [("adata: x".to_owned(), "z".to_owned(), "1data: y".to_owned())]);
    }

    proptest! {
        #[test]
        fn events_come_back(
            events in prop::collection::vec(
                (prop::option::of("[a-z]{1,8}"), "[0-9a-z.-]{1,20}", "(\r|\n|\r\n| |:|data: |id|\0|é|\u{2028})*|\\PC*"),
                0..5,
            ),
        ) {
            let mut out = Vec::new();
            for (event, id, data) in &events {
                comment_padding(3, &mut out);
                block(event.as_deref(), Some(id), data.as_bytes(), &mut out);
            }
            let expected: Vec<_> = events.into_iter().map(|(event, id, data)| {
                let data = data.replace("\r\n", "\n").replace('\r', "\n");
                (event.unwrap_or_else(|| "message".to_owned()), data, id)
            }).collect();
            prop_assert_eq!(Client::read(&out).events, expected);
        }
    }
}
