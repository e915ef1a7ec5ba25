//! The end of a handshake of 2010: the client sends its last key after the head of its request.

use crate::serve::net::stream::{ClientStream, Unread};
use crate::wire::hixie76::{KEY3, Keys};
use bytes::Buf;
use std::future::poll_fn;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Reads the last key, and answers it. Some proxies pass the key on only after the head of the answer.
///
/// # Errors
///
/// The key does not come within the limit, or the client has disconnected.
pub async fn complete(io: &mut ClientStream, unread: &mut Unread, keys: Keys, limit: Duration) -> io::Result<()> {
    let reading = async {
        while unread.len() < KEY3 {
            if poll_fn(|cx| io.poll_input(cx, unread)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        Ok(())
    };
    timeout(limit, reading).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))?;
    let mut key3 = [0; KEY3];
    unread.buffer().copy_to_slice(&mut key3);
    io.write_all(&keys.answer(&key3)).await
}
