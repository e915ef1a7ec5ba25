//! The requests that an application gets from the server, for tests that act as the application.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A POST of the server to the application.
#[derive(Clone, Debug)]
pub struct ServerRequest {
    /// The request line and the header fields.
    pub head: String,
    pub body: String,
}

impl ServerRequest {
    /// Reads a whole request; `None` if the connection ends before.
    pub async fn read(stream: &mut TcpStream) -> Option<ServerRequest> {
        let mut bytes = Vec::new();
        loop {
            stream.read_buf(&mut bytes).await.ok().filter(|n| *n > 0)?;
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let request = ServerRequest { head: head.to_owned(), body: body.to_owned() };
            assert!(request.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")), "{head}");
            if body.len() >= request.header("content-length")?.parse().ok()? {
                return Some(request);
            }
        }
    }

    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}
