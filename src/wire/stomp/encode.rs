//! Writes the frames of a server.

use super::version::Version;

/// The byte that ends a frame.
const END: u8 = 0;

/// A heart-beat.
pub const HEART_BEAT: &[u8] = b"\n";

/// Appends the answer to a CONNECT. `send_ms`: the silence after which the server sends a heart-beat. The server does not
/// ask for those of the client.
pub fn connected(version: Version, session: &str, send_ms: u128, out: &mut Vec<u8>) {
    out.extend_from_slice(b"CONNECTED\n");
    header("version", version.as_str(), Version::V10, out);
    header("server", concat!("longtail/", env!("CARGO_PKG_VERSION")), Version::V10, out);
    header("session", session, Version::V10, out);
    header("heart-beat", &format!("{send_ms},0"), Version::V10, out);
    out.extend_from_slice(b"\n\0");
}

/// Appends the answer to a frame that asks for a receipt.
pub fn receipt(id: &str, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RECEIPT\n");
    header("receipt-id", id, version, out);
    out.extend_from_slice(b"\n\0");
}

/// Appends an error. The connection ends after it.
pub fn error(message: &str, receipt: Option<&str>, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(b"ERROR\n");
    // A line of text for people: clients of all versions show it as it is.
    header("message", &message.replace(['\r', '\n'], " "), version, out);
    if let Some(receipt) = receipt {
        header("receipt-id", receipt, version, out);
    }
    header("version", "1.0,1.1,1.2", Version::V10, out);
    body("text/plain;charset=utf-8", message.as_bytes(), out);
}

/// Appends the beginning of a message, which differs between subscriptions: the command, the subscription, and the id for
/// an acknowledgement.
pub fn message_begin(subscription: &str, ack: Option<&str>, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MESSAGE\n");
    header("subscription", subscription, version, out);
    if let Some(ack) = ack {
        header("ack", ack, version, out);
    }
}

/// Appends the rest of a message, which all subscriptions share.
pub fn message_rest(destination: &str, id: &str, kind: &str, text: &str, version: Version, out: &mut Vec<u8>) {
    header("destination", destination, version, out);
    header("message-id", id, version, out);
    body(kind, text.as_bytes(), out);
}

fn body(kind: &str, body: &[u8], out: &mut Vec<u8>) {
    header("content-type", kind, Version::V10, out);
    header("content-length", &body.len().to_string(), Version::V10, out);
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(END);
}

/// Appends a header with the escapes of a version.
fn header(name: &str, value: &str, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    for byte in value.bytes() {
        match (byte, version) {
            // 1.0 cannot write a line feed in a header.
            (b'\n', Version::V10) => out.push(b' '),
            (_, Version::V10) => out.push(byte),
            (b'\n', _) => out.extend_from_slice(b"\\n"),
            (b':', _) => out.extend_from_slice(b"\\c"),
            (b'\\', _) => out.extend_from_slice(b"\\\\"),
            (b'\r', Version::V12) => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
    }
    out.push(b'\n');
}
