//! Messages as they were published, and the meaning of "arrives as it was sent".

/// The data that a publisher has about a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub id: String,
    pub channel: String,
    pub data: String,
}

pub fn message_ids(published: &[Published]) -> Vec<&str> {
    published.iter().map(|p| p.id.as_str()).collect()
}

/// Whether `got` is the JSON text that was sent. On script transports characters inside strings may be
/// written as escapes; everything else stays byte for byte.
pub fn same_payload(script: bool, sent: &str, got: &str) -> bool {
    if script { plain(sent) == plain(got) } else { sent == got }
}

/// A JSON text with the escapes inside its strings resolved and all else untouched.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        let end = string_end(&rest[start..]) + start;
        out.push_str(&rest[..start]);
        let string: String =
            serde_json::from_str(&rest[start..end]).unwrap_or_else(|error| panic!("{}: {error}", &rest[start..end]));
        out.push('\u{1}');
        out.push_str(&string);
        out.push('\u{2}');
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The index behind the string literal that `text` begins with.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    panic!("an unterminated string in {text}")
}
