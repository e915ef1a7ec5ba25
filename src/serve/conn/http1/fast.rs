//! Plain requests: those of readers and publishers, read and answered without hyper.
//!
//! Whoever polls or publishes asks again and again, by a head that is simple and comes in one piece. To make a
//! hyper connection for each round of a long poll, and to let hyper take the requests of a pipeline one after the
//! other, costs more than everything else that is done for them; and a stream that hyper has begun leaves its
//! buffers' places behind in memory. So what is plain is read here, by the parser
//! that hyper has, and goes the way of every request: [`router::answer`] decides all of it.
//!
//! A request is plain if nothing about it needs more thought: `GET` to the path of a poll or a stream, or `POST` to
//! `/publish`; HTTP/1.1,
//! no `Upgrade`, no `Expect`, no `Transfer-Encoding`, a `Content-Length` that is one number, head and body there within
//! a moment. Anything else, and whatever does not become one of these, is hyper's, with every byte as it came. Nothing
//! is refused here.
//!
//! Publishes that come together are appended together. Each is queued before the next is looked at, so the log has them
//! in their order, and the answers go out in their order, in one write. Who publishes on and on by one head has it read
//! once: see [`manner`](super::publish_template).
//!
//! `--plain-requests false` leaves them all to hyper. `tests/plain.rs` holds both to the same answers.

use super::publish_template::{Asking, Manner, Outline, length};
use crate::serve::App;
use crate::serve::conn::connection::MAX_HEAD;
use crate::serve::http::peer::{Client, Handover, Taken};
use crate::serve::http::request::{Inbound, Request};
use crate::serve::limits::memory::Buffer;
use crate::serve::net::stream::ClientIo;
use crate::serve::routes::publish::Publishing;
use crate::serve::routes::response::{self, Body, Reply};
use crate::serve::routes::router;
use crate::serve::session::long_poll::Waiting;
use crate::transport::{self, Lifecycle, Params};
use bytes::{Buf, Bytes, BytesMut};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use hyper::{HeaderMap, Method, StatusCode, Uri, Version};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

/// Bytes of requests that are read before they are answered. One that does not fit is hyper's.
const ROOM: usize = 64 << 10;

/// Header lines of a plain request.
const LINES: usize = 64;

/// How long a request may take to be whole, and how long a connection is quiet before it is watched for the end of
/// the server, too. Whoever polls comes back sooner, and costs no more than this one timer.
const MOMENT: Duration = Duration::from_secs(1);

/// Publishes of one connection that may be under way.
const UNDER_WAY: usize = 64;

/// Bytes of answers that are gathered before they are written.
const GATHERED: usize = 16 << 10;

/// What becomes of a connection whose plain requests are answered.
pub enum Next {
    /// A stream has begun: its head is written. What was read behind its request.
    Taken(Box<Taken>, Bytes),
    /// A poll waits.
    Wait(Box<Waiting>),
    /// What comes is hyper's.
    Hyper(Bytes),
    /// It has ended, or is to.
    End,
}

/// Answers plain requests for as long as there are any. `input`: what was read already.
///
/// # Errors
///
/// The client is gone, or takes nothing.
pub async fn serve(app: &Arc<App>, io: &mut ClientIo, client: &Client, mut input: BytesMut) -> io::Result<Next> {
    if !app.settings.plain_requests {
        return Ok(Next::Hyper(input.freeze()));
    }
    let mut answers = Answers::default();
    let mut since = Instant::now();
    loop {
        let known = answers.manner.as_ref().and_then(|manner| parse_known(app, client, manner, &mut input));
        match known.unwrap_or_else(|| parse(&mut input)) {
            Parsed::Again(publishing, manner) => {
                answers.again(app, client, publishing, manner).await;
                answers.send_if_many(app, io).await?;
            }
            Parsed::Publish(request, outline) => {
                answers.first(app, client, *request, outline).await;
                answers.send_if_many(app, io).await?;
            }
            Parsed::Request(request, whole_head) => {
                answers.finish(app).await;
                if answers.is_last {
                    answers.send(app, io).await?;
                    return Ok(Next::End);
                }
                let reply = router::answer(app, client, *request).await;
                if matches!(reply.body(), Body::Waiting(_)) {
                    let head = app.polls.head(&reply);
                    answers.send(app, io).await?;
                    if let Body::Waiting(mut waiting) = reply.into_body() {
                        if is_decided_by_head(app, client)
                            && let Some(shape) = app.polls.shape(&whole_head)
                        {
                            waiting.remember(shape);
                        }
                        waiting.set_head(head);
                        waiting.input = input.into();
                        return Ok(Next::Wait(waiting));
                    }
                    return Ok(Next::End);
                }
                answers.write(app, Answer::Reply(reply, None));
                if let Some(taken) = client.handover().take() {
                    answers.send(app, io).await?;
                    return Ok(Next::Taken(taken, input.freeze()));
                }
                // A request of some sixty bytes may be answered a megabyte.
                answers.send_if_many(app, io).await?;
            }
            Parsed::Part => {
                answers.send(app, io).await?;
                if answers.is_last {
                    return Ok(Next::End);
                }
                if input.is_empty() {
                    since = Instant::now();
                }
                if input.len() >= ROOM || !read(app, io, &mut input, since).await? {
                    return Ok(if input.is_empty() { Next::End } else { Next::Hyper(input.freeze()) });
                }
            }
            Parsed::Other => {
                answers.send(app, io).await?;
                return Ok(if answers.is_last { Next::End } else { Next::Hyper(input.freeze()) });
            }
        }
        if answers.is_last {
            answers.send(app, io).await?;
            return Ok(Next::End);
        }
    }
}

/// Reads more; false: nothing more is to come here.
pub async fn read(app: &App, io: &mut ClientIo, input: &mut BytesMut, since: Instant) -> io::Result<bool> {
    let is_new = input.is_empty();
    if is_new {
        // A quiet connection holds no buffer.
        *input = BytesMut::new();
    }
    if let Ok(read) = tokio::time::timeout_at(since + MOMENT, poll_fn(|cx| io.poll_input(cx, input))).await {
        return Ok(read? > 0);
    }
    if !is_new || app.drain.has_begun() {
        return Ok(false);
    }
    let waiting = tokio::time::timeout(app.settings.request_timeout, poll_fn(|cx| io.poll_input(cx, input)));
    tokio::select! {
        // First: what a client has sent in time is answered, also by one who is going.
        biased;
        read = waiting => read.map_or(Ok(false), |read| Ok(read? > 0)),
        () = app.drain.begun() => Ok(false),
    }
}

/// What a request is answered.
enum Answer {
    /// This. Whoever publishes once more in this manner need not be read anew.
    Reply(Reply, Option<Box<Manner>>),
    /// A body in a known manner.
    Published(Arc<Manner>, Vec<u8>),
}

/// An answer that is being made.
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers in the order of their requests.
#[derive(Default)]
struct Answers {
    under_way: VecDeque<Answering>,
    out: Vec<u8>,
    /// Whether what was answered last ends the connection.
    is_last: bool,
    /// Whether any of them is of a publish.
    has_published: bool,
    /// How the last publish was asked for that was read.
    manner: Option<Arc<Manner>>,
}

impl Answers {
    /// Begins to answer a publish: it is queued for the log, or answered.
    async fn first(&mut self, app: &Arc<App>, client: &Client, request: Request, outline: Option<Outline>) {
        let asking = outline.and_then(|outline| Asking::of(app, client, &request, outline));
        let (app_, client_) = (app.clone(), client.clone());
        let answering = Box::pin(async move {
            let reply = router::answer(&app_, &client_, request).await;
            let manner = asking.and_then(|asking| asking.answered(&reply));
            Answer::Reply(reply, manner.map(Box::new))
        });
        self.begin(app, client, answering).await;
    }

    /// Does the same for one that is asked for in a known manner.
    async fn again(&mut self, app: &Arc<App>, client: &Client, publishing: Publishing, manner: Arc<Manner>) {
        let (app_, handover) = (app.clone(), client.handover());
        let answering = Box::pin(async move {
            match publishing.carry_out(&app_, manner.asker(), &handover).await {
                Ok(published) => Answer::Published(manner, published),
                Err(refusal) => Answer::Reply(manner.refused(&app_, &refusal), None),
            }
        });
        self.begin(app, client, answering).await;
    }

    async fn begin(&mut self, app: &App, client: &Client, mut answering: Answering) {
        self.has_published = true;
        let queued = client.handover();
        queued.set_queued(false);
        let answer = poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if queued.is_queued() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match answer.await {
            None => self.under_way.push_back(answering),
            Some(answer) if self.under_way.is_empty() => self.write(app, answer),
            Some(answer) => self.under_way.push_back(Box::pin(std::future::ready(answer))),
        }
    }

    /// Waits for all that was begun.
    async fn finish(&mut self, app: &App) {
        while let Some(answering) = self.under_way.pop_front() {
            let answer = answering.await;
            self.write(app, answer);
        }
    }

    fn write(&mut self, app: &App, answer: Answer) {
        match &answer {
            Answer::Reply(reply, _) => {
                self.is_last |= reply.headers().contains_key(CONNECTION);
                response::write_head(reply, &mut self.out);
            }
            Answer::Published(manner, _) => self.out.extend_from_slice(manner.answer()),
        }
        // Said with the last answer that there will be.
        if app.drain.has_begun() && !self.is_last && self.under_way.is_empty() {
            self.is_last = true;
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        let (reply, manner) = match answer {
            Answer::Reply(reply, manner) => (reply, manner),
            Answer::Published(_, body) => {
                response::write_length(Some(body.len()), &mut self.out);
                return self.out.extend_from_slice(&body);
            }
        };
        if let Some(manner) = manner {
            self.manner = Some(manner.into());
        }
        let has_length = reply.status() != StatusCode::NOT_MODIFIED;
        let body = match reply.into_body() {
            Body::Whole(body) => body,
            // Whoever takes the connection over writes the body.
            Body::Handover(_) => return response::write_chunked(&mut self.out),
            // Nothing that is plain is answered so; a body that never comes would be worse than an end.
            Body::Pieces(_) | Body::Waiting(_) => {
                self.is_last = true;
                return;
            }
        };
        // A 304 says nothing of its body's length.
        response::write_length(body.as_ref().map(Bytes::len).or(has_length.then_some(0)), &mut self.out);
        self.out.extend_from_slice(&body.unwrap_or_default());
    }

    /// Writes what was begun when that is enough.
    async fn send_if_many(&mut self, app: &Arc<App>, io: &mut ClientIo) -> io::Result<()> {
        if self.under_way.len() >= UNDER_WAY || self.out.len() >= GATHERED {
            self.send(app, io).await?;
        }
        Ok(())
    }

    /// Writes all that was begun.
    async fn send(&mut self, app: &Arc<App>, io: &mut ClientIo) -> io::Result<()> {
        self.finish(app).await;
        if self.out.is_empty() {
            return Ok(());
        }
        // Whoever publishes again when he is answered is else on with the next while the readers of the last wait: his
        // connection always has something to read, and the hub's turn comes late.
        if std::mem::take(&mut self.has_published) {
            app.hub.handed_out().await;
        }
        let out = Bytes::from(std::mem::take(&mut self.out));
        let sent = io.write_now(&out)?;
        if sent < out.len() {
            let rest = out.slice(sent..);
            Box::pin(app.budget.write(Buffer::of(&rest), io.write_all(&rest))).await?;
        }
        Ok(())
    }
}

impl Handover {
    /// Notes that what is being answered has come to where its order in the log is settled.
    pub async fn queueing<F: Future>(&self, appending: F) -> F::Output {
        let mut appending = std::pin::pin!(appending);
        let mut is_first = true;
        poll_fn(|cx| {
            let appended = appending.as_mut().poll(cx);
            if std::mem::take(&mut is_first) {
                self.set_queued(true);
            }
            appended
        })
        .await
    }
}

/// What the bytes that were read begin with.
pub enum Parsed {
    /// A plain request for messages, which is taken out, and its head.
    Request(Box<Request>, Bytes),
    /// A plain publish, which is taken out, and its head around what differs from one to the next.
    Publish(Box<Request>, Option<Outline>),
    /// A publish in a manner that is known, which is taken out.
    Again(Publishing, Arc<Manner>),
    /// A part of something that may become one.
    Part,
    /// Something else.
    Other,
}

/// Takes a publish out that is asked for in a known manner. `None`: it is to be read like any other.
fn parse_known(app: &App, client: &Client, manner: &Arc<Manner>, input: &mut BytesMut) -> Option<Parsed> {
    let found = manner.find(input)?;
    let size = found.head.saturating_add(found.body);
    let body = input.get(found.head..size).filter(|_| found.head <= MAX_HEAD && size <= ROOM)?;
    let body = std::str::from_utf8(body).ok()?;
    // One that is refused is told so by those who refuse. What is not sound does not count before it is told.
    let publishing = Publishing::read(found.query, manner.kind(), body, app.settings.max_message).ok()?;
    app.rates.request(client.ip).ok()?;
    input.advance(size);
    Some(Parsed::Again(publishing, manner.clone()))
}

/// Takes out what they begin with, where that is a plain request.
pub fn parse(input: &mut BytesMut) -> Parsed {
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut head = httparse::Request::new(&mut []);
    let size = match head.parse_with_uninit_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(size)) if size <= MAX_HEAD => size,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Parsed::Part,
        // What is wrong with it is hyper's to say.
        _ => return Parsed::Other,
    };
    let (Some(method), Some(target), Some(1)) = (head.method, head.path, head.version) else { return Parsed::Other };
    let is_post = method == "POST";
    if !(is_post || method == "GET") || !is_plain(is_post, target) {
        return Parsed::Other;
    }
    // One piece of memory that all parts of the head point into, and not the buffer, which may be much larger.
    let shared = Bytes::copy_from_slice(&input[..size]);
    let begin = input.as_ptr() as usize;
    let part = |part: &[u8]| {
        let at = part.as_ptr() as usize - begin;
        shared.slice(at..at + part.len())
    };
    let Ok(uri) = Uri::from_maybe_shared(part(target.as_bytes())) else { return Parsed::Other };
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    let (mut body, mut outline) = (None, None);
    for line in head.headers.iter() {
        let Ok(name) = HeaderName::from_bytes(line.name.as_bytes()) else { return Parsed::Other };
        if name == CONTENT_LENGTH {
            let Some(length) = length(line.value).filter(|_| body.is_none() && is_post) else { return Parsed::Other };
            body = Some(length);
            let at = line.value.as_ptr() as usize - begin;
            outline = Outline::of(&shared, at..at + line.value.len());
        } else if [TRANSFER_ENCODING, UPGRADE, EXPECT, TE].contains(&name)
            || (name == CONNECTION && !line.value.eq_ignore_ascii_case(b"keep-alive"))
        {
            return Parsed::Other;
        }
        let Ok(value) = HeaderValue::from_maybe_shared(part(line.value)) else { return Parsed::Other };
        headers.append(name, value);
    }
    let body = match body {
        None if is_post => return Parsed::Other,
        body => body.unwrap_or_default(),
    };
    let whole = size.saturating_add(body);
    if whole > ROOM {
        return Parsed::Other;
    }
    if input.len() < whole {
        return Parsed::Part;
    }
    let body = Bytes::copy_from_slice(&input[size..whole]);
    input.advance(whole);
    let mut request = Box::new(Request::new(Inbound::Whole(body)));
    *request.method_mut() = if is_post { Method::POST } else { Method::GET };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    if is_post { Parsed::Publish(request, outline) } else { Parsed::Request(request, shared) }
}

/// Whether nothing but its head decides what becomes of a poll: nobody is asked who may read, nothing is written down of
/// each request, and no proxy speaks for others.
fn is_decided_by_head(app: &App, client: &Client) -> bool {
    app.authorizer.is_open() && app.access_log.is_none() && !app.proxies.trusts(client.ip)
}

/// Whether what is asked for may be answered here. By its bare name: what is spelt otherwise is no path of ours.
fn is_plain(is_post: bool, target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if is_post {
        return path == "/publish";
    }
    let lifecycle = transport::by_path(path).map(|transport| transport.lifecycle(&Params::default()));
    matches!(lifecycle, Some(Lifecycle::Poll | Lifecycle::LongPoll | Lifecycle::Stream { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is found in `bytes`: requests, and whether the rest is a part of one. The rest stays as it was.
    fn parsed(bytes: &[u8]) -> (Vec<(Method, String, usize)>, bool, BytesMut) {
        let mut input = BytesMut::from(bytes);
        let mut requests = Vec::new();
        loop {
            match parse(&mut input) {
                Parsed::Request(request, _) | Parsed::Publish(request, _) => {
                    let Inbound::Whole(body) = request.body() else { panic!("its body is there") };
                    requests.push((request.method().clone(), request.uri().to_string(), body.len()));
                }
                Parsed::Part => return (requests, true, input),
                Parsed::Again(..) | Parsed::Other => return (requests, false, input),
            }
        }
    }

    #[test]
    fn a_request_is_taken_when_it_is_whole() {
        let get = "GET /long-poll?channel=a HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST /publish?channel=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let other = "GET /info HTTP/1.1\r\nHost: a\r\n\r\n";
        let all = [get, post, other].concat();
        for cut in 0..=all.len() {
            let (requests, is_part, rest) = parsed(&all.as_bytes()[..cut]);
            let whole = usize::from(cut >= get.len()) + usize::from(cut >= get.len() + post.len());
            assert_eq!(requests.len(), whole, "{cut}");
            assert_eq!(is_part, cut < all.len(), "{cut}");
            let taken: usize = [get, post][..whole].iter().map(|request| request.len()).sum();
            assert_eq!(rest, all.as_bytes()[taken..cut], "{cut}");
        }
        let (requests, ..) = parsed(all.as_bytes());
        assert_eq!(requests[0], (Method::GET, "/long-poll?channel=a".to_owned(), 0));
        assert_eq!(requests[1], (Method::POST, "/publish?channel=a".to_owned(), 3));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_of_what_is_not_taken(
            start in "(GET|POST|PUT) /(poll|sse|publish|info)[?a-z=%]{0,8} HTTP/1.[01]\r\n",
            lines in prop::collection::vec("(Content-Length|Connection|Transfer-Encoding|Expect|X)[ :]{1,2}[0-9a-z, +-]{0,8}(\r\n|\n|\r)", 0..4),
            rest: Vec<u8>,
        ) {
            let bytes = [start.as_bytes(), lines.concat().as_bytes(), b"\r\n", &rest].concat();
            let (_, _, left) = parsed(&bytes);
            prop_assert!(bytes.ends_with(&left));
        }

        #[test]
        fn anything_is_read(bytes: Vec<u8>) {
            parsed(&bytes);
        }
    }
}
