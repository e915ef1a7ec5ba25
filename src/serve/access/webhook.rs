//! The authorization webhook: asks the application over HTTP whether a client may subscribe or publish
//! (`--authorize-url`).

mod decision;

use super::query::AccessRequest;
use crate::message::User;
use crate::serve::application::change_log::{ChangeLog, LogText};
use crate::serve::application::client::ApplicationClient;
use crate::serve::application::problem::Problem;
use bytes::Bytes;
use decision::Decision;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use hyper::{Method, Request, Uri};
use moka::Expiry;
use moka::future::Cache;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Limit on access requests in flight. Readers that all reconnect at the same time must not overload an application
/// that has only a few workers.
pub const MAX_IN_FLIGHT: usize = 64;

/// Memory for cached answers. The limit is in bytes and not in entries, because a client chooses the length of its
/// cookies.
const MAX_CACHED_BYTES: usize = 32 << 20;

/// Size limit of an answer's body.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The texts of the log lines about the application.
const LOG_TEXT: LogText =
    LogText { flag: "--authorize-url", fails: "did not decide, so requests are refused", works: "decides again" };

/// Memory for access requests that wait for an answer or for their turn.
const MAX_WAITING_BYTES: usize = MAX_CACHED_BYTES / 2;

/// The application's answer to an access request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These channels are allowed.
    Allowed(Allowed),
    /// 401: the user is not signed in.
    Unauthorized,
    /// 403, or any other status below 500 except 200: the application does not allow the action.
    Refused,
    /// The application did not answer, or its answer was the result of an error. The server may ask again.
    Failed,
}

/// The channels that the application allows.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Their names.
    pub channels: Arc<HashSet<String>>,
    /// The user that the application names.
    pub user: Option<Arc<User>>,
    /// The time at which the answer expires. Then the server has to ask again.
    pub until: Instant,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

struct Metrics {
    requests: Family<Outcome, Counter>,
    seconds: Histogram,
}

/// Removes an answer from the cache a moment before the answer expires, because the cache's clock starts a little
/// later. A reader that renews its permission exactly at the expiry must not get the old answer.
struct AtItsEnd;

impl Expiry<AccessRequest, Allowed> for AtItsEnd {
    fn expire_after_create(&self, _: &AccessRequest, allowed: &Allowed, _: std::time::Instant) -> Option<Duration> {
        let left = allowed.until.saturating_duration_since(Instant::now());
        Some(left.saturating_sub(Duration::from_millis(1)))
    }
}

/// A client of the application, with a cache of its answers.
pub struct Webhook {
    cache: Cache<AccessRequest, Allowed>,
    application: Arc<Application>,
}

impl Webhook {
    /// A webhook that calls the application at this `http:` or `https:` URL, with at most this many access requests in
    /// flight. An access request may take `timeout`, including the wait for its turn.
    ///
    /// # Errors
    ///
    /// The URL is `https:`, and the system's certificates cannot be read.
    pub fn new(uri: Uri, max_in_flight: usize, timeout: Duration, registry: &mut Registry) -> std::io::Result<Webhook> {
        let client = ApplicationClient::new(uri, timeout, MAX_ANSWER_BYTES)?;
        let metrics = Metrics { requests: Family::default(), seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0]) };
        registry.register(
            "authorize_requests",
            "Requests to the application about permissions to subscribe or publish, by outcome",
            metrics.requests.clone(),
        );
        registry.register("authorize_seconds", "Time that the application took to answer", metrics.seconds.clone());
        let cache = Cache::builder()
            .max_capacity(MAX_CACHED_BYTES as u64)
            .weigher(|access_request, _| u32::try_from(size_of(access_request)).unwrap_or(u32::MAX))
            .expire_after(AtItsEnd)
            .build();
        let application = Application {
            client,
            timeout,
            free: Semaphore::new(max_in_flight),
            waiting_bytes: Semaphore::new(MAX_WAITING_BYTES),
            metrics,
            changes: ChangeLog::new(LOG_TEXT),
        };
        Ok(Webhook { cache, application: Arc::new(application) })
    }

    /// Answers from the cache, or asks the application. Equal access requests at the same time share one request.
    ///
    /// # Cancel safety
    ///
    /// If the returned future is dropped, the request to the application still runs to its end, and its answer is
    /// cached.
    pub async fn ask(&self, access_request: AccessRequest) -> Answer {
        if let Some(allowed) = self.cache.get(&access_request).await {
            self.application.metrics.count("known");
            return Answer::Allowed(allowed);
        }
        let (cache, application) = (self.cache.clone(), self.application.clone());
        // The request runs in a separate task. The caller may stop polling at any time. If the request ran in the
        // caller's task, it would then keep its place among the access requests in flight, or treat an old answer as a
        // new one.
        let asking = tokio::spawn(async move {
            let request = async { application.ask(&access_request).await };
            let answer = cache.try_get_with_by_ref(&access_request, request).await;
            // The cache itself evicts entries only from time to time. Without this call, it could exceed its limit for
            // a while.
            cache.run_pending_tasks().await;
            answer
        });
        match asking.await {
            Ok(Ok(allowed)) => Answer::Allowed(allowed),
            Ok(Err(answer)) => Answer::clone(&answer),
            Err(_) => Answer::Failed,
        }
    }
}

/// An estimate of the memory for an access request and its answer. The answer contains only channels that are in the
/// access request.
fn size_of(access_request: &AccessRequest) -> usize {
    let credentials = &access_request.credentials;
    let headers = [credentials.origin(), credentials.cookie(), credentials.authorization()].into_iter().flatten();
    let names: usize = access_request.channels.iter().map(|channel| 2 * channel.as_str().len() + 128).sum();
    640 + names + headers.map(|header| header.len()).sum::<usize>()
}

impl Metrics {
    fn count(&self, outcome: &'static str) {
        self.requests.get_or_create(&Outcome { outcome }).inc();
    }
}

/// The application behind the URL.
struct Application {
    client: ApplicationClient,
    /// The time limit for an access request.
    timeout: Duration,
    /// Permits for access requests in flight.
    free: Semaphore,
    /// Permits for the memory of waiting access requests, one for each byte.
    waiting_bytes: Semaphore,
    metrics: Metrics,
    changes: ChangeLog,
}

impl Application {
    /// Asks the application. An answer that does not allow the action is returned as an error, because the cache does
    /// not store errors.
    async fn ask(&self, access_request: &AccessRequest) -> Result<Allowed, Answer> {
        let size = u32::try_from(size_of(access_request)).unwrap_or(u32::MAX);
        let Ok(_memory) = self.waiting_bytes.try_acquire_many(size) else {
            self.metrics.count("failed");
            self.changes.note(Some(&Problem::passing(
                "too many requests to the application are waiting for their answers",
                SLOW,
            )));
            return Err(Answer::Failed);
        };
        let began = Instant::now();
        let decided = tokio::time::timeout(self.timeout, self.request(access_request))
            .await
            .unwrap_or_else(|_| Err(Problem::passing(format!("no answer within {} s", self.timeout.as_secs()), SLOW)));
        self.changes.note(decided.as_ref().err());
        self.metrics.seconds.observe(began.elapsed().as_secs_f64());
        let (outcome, answer) = match decided {
            Ok(Decision::Allowed(channels, ttl, user)) => ("allowed", Ok(allowed(channels, ttl, user, access_request))),
            Ok(Decision::Unauthorized) => ("unauthorized", Err(Answer::Unauthorized)),
            Ok(Decision::Refused) | Err(Problem { may_pass: false, .. }) => ("refused", Err(Answer::Refused)),
            Err(_) => ("failed", Err(Answer::Failed)),
        };
        self.metrics.count(outcome);
        answer
    }

    async fn request(&self, access_request: &AccessRequest) -> Result<Decision, Problem> {
        let cannot_ask =
            |error: &dyn std::fmt::Display| Problem::passing(format!("the request could not be sent: {error}"), "");
        let _free = self.free.acquire().await.map_err(|error| cannot_ask(&error))?;
        let request = request(access_request).map_err(|error| cannot_ask(&error))?;
        let reply = self.client.send(request).await.map_err(|error| Problem::no_reply(&error))?;
        decision::read(&reply)
    }
}

/// The advice for an application that does not answer in time.
const SLOW: &str = "make it faster, or raise --authorize-timeout";

/// The HTTP request that sends an access request to the application.
fn request(access_request: &AccessRequest) -> hyper::http::Result<Request<Full<Bytes>>> {
    let credentials = &access_request.credentials;
    let channels: Vec<&str> = access_request.channels.iter().map(|channel| channel.as_str()).collect();
    let body = serde_json::json!({
        "action": access_request.action.as_str(),
        "channels": channels,
        "client": access_request.client.as_ref().map(ToString::to_string),
        "transport": credentials.transport,
        "ip": credentials.ip.to_string(),
        "origin": credentials.origin().map(|origin| String::from_utf8_lossy(origin.as_bytes())),
    });
    let mut request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json");
    for (name, value) in [(COOKIE, credentials.cookie()), (AUTHORIZATION, credentials.authorization())] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    request.body(Full::from(body.to_string()))
}

/// The part of a decision that answers the access request.
fn allowed(
    mut channels: HashSet<String>,
    ttl: f64,
    user: Option<Arc<User>>,
    access_request: &AccessRequest,
) -> Allowed {
    // The answer may name all channels that the user may read. Only the channels of the access request are kept.
    channels.retain(|name| access_request.channels.iter().any(|channel| channel.as_str() == name));
    // The time is shortened at random, by up to a tenth, so that readers that connected together do not ask again at
    // the same moment.
    let ttl = Duration::from_secs_f64(ttl).mul_f64(0.9 + fastrand::f64() / 10.0);
    Allowed { channels: Arc::new(channels), user, until: Instant::now() + ttl }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::access::credentials::Credentials;
    use crate::serve::access::query::Action;
    use futures_util::future::join_all;
    use hyper::HeaderMap;
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    /// An application that takes 100 ms to allow `a` for a second, or does not answer.
    struct Other {
        webhook: Webhook,
        is_silent: Arc<AtomicBool>,
        asked: Arc<AtomicUsize>,
    }

    impl Other {
        async fn start() -> Other {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
            let uri = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("an address");
            let (is_silent, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
            let (silent, count) = (is_silent.clone(), asked.clone());
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let (silent, count) = (silent.clone(), count.clone());
                    tokio::spawn(async move {
                        while stream.read(&mut [0; 8192]).await.is_ok_and(|n| n > 0) {
                            count.fetch_add(1, Ordering::SeqCst);
                            if silent.load(Ordering::SeqCst) {
                                return std::future::pending().await;
                            }
                            sleep(Duration::from_millis(100)).await;
                            let body = r#"{"channels":["a","b"],"ttl":1}"#;
                            let answer = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                            stream.write_all(answer.as_bytes()).await.expect("write");
                        }
                    });
                }
            });
            let webhook = Webhook::new(uri, MAX_IN_FLIGHT, Duration::from_secs(2), &mut Registry::default())
                .expect("an application");
            Other { webhook, is_silent, asked }
        }

        fn count(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        async fn is_allowed(&self, cookie: &str) -> bool {
            let answer = self.webhook.ask(access_request(cookie)).await;
            matches!(answer, Answer::Allowed(allowed) if allowed.channels.len() == 1)
        }
    }

    fn access_request(cookie: &str) -> AccessRequest {
        let headers = HeaderMap::from_iter([(COOKIE, cookie.parse().expect("a header"))]);
        let credentials = Credentials::new(IpAddr::from([127, 0, 0, 1]), "poll", &headers, true);
        AccessRequest {
            action: Action::Subscribe,
            channels: vec!["a".parse().expect("a channel")],
            client: None,
            credentials,
        }
    }

    impl Other {
        async fn cached(&self) -> (u64, u64) {
            self.webhook.cache.run_pending_tasks().await;
            (self.webhook.cache.entry_count(), self.webhook.cache.weighted_size())
        }

        fn waiting_bytes(&self) -> usize {
            MAX_WAITING_BYTES - self.webhook.application.waiting_bytes.available_permits()
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_keeps_no_place() {
        let other = Other::start().await;
        other.is_silent.store(true, Ordering::SeqCst);
        let cookies: Vec<String> = (0..MAX_IN_FLIGHT).map(|n| format!("n={n}")).collect();
        let left = cookies.iter().map(|cookie| timeout(Duration::from_millis(1500), other.is_allowed(cookie)));
        assert!(join_all(left).await.iter().all(Result::is_err), "none of them waited for an answer");
        other.is_silent.store(false, Ordering::SeqCst);
        let healed = async { while !other.is_allowed("another").await {} };
        timeout(Duration::from_secs(6), healed).await.expect("the others' places to be free");
        assert_eq!(other.cached().await, (1, size_of(&access_request("another")) as u64));
        // Each access request returns its memory when its own time is over.
        let released = async {
            while other.waiting_bytes() > 0 {
                sleep(Duration::from_millis(5)).await
            }
        };
        timeout(Duration::from_secs(6), released).await.expect("the memory of all access requests to be free");
    }

    #[tokio::test]
    async fn an_answer_counts_from_when_it_was_given() {
        let other = Other::start().await;
        assert!(timeout(Duration::from_millis(50), other.is_allowed("x")).await.is_err());
        timeout(Duration::from_secs(5), async {
            while other.cached().await.0 == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("its end");
        // A caller that asks before the answer expires gets the cached answer; later callers do not.
        assert!(other.is_allowed("x").await);
        assert_eq!(other.count(), 1);
        sleep(Duration::from_millis(1100)).await;
        assert!(other.is_allowed("x").await);
        assert_eq!(other.count(), 2);
    }

    #[tokio::test]
    async fn equal_requests_are_sent_once() {
        let other = Other::start().await;
        assert!(join_all((0..10).map(|_| other.is_allowed("x"))).await.into_iter().all(|is_allowed| is_allowed));
        assert_eq!(other.count(), 1);
    }

    #[tokio::test]
    async fn answers_are_bounded_by_what_they_hold() {
        let other = Other::start().await;
        let until = Instant::now() + Duration::from_secs(60);
        let answer = Allowed { channels: Arc::default(), user: None, until };
        let junk = "x".repeat(30_000);
        for n in 0..3000 {
            other.webhook.cache.insert(access_request(&format!("{n}{junk}")), answer.clone()).await;
            let (_, bytes) = other.cached().await;
            assert!(bytes <= MAX_CACHED_BYTES as u64, "{n}: {bytes}");
        }
        let (entries, bytes) = other.cached().await;
        assert!(entries > 500 && bytes > MAX_CACHED_BYTES as u64 / 2, "{entries} entries, {bytes} bytes");
    }

    #[tokio::test]
    async fn waiting_requests_are_bounded_by_their_memory() {
        let other = Other::start().await;
        let size = size_of(&access_request("x"));
        let others = u32::try_from(MAX_WAITING_BYTES - size + 1).expect("a number");
        let held = other.webhook.application.waiting_bytes.try_acquire_many(others).expect("free memory");
        assert!(!other.is_allowed("x").await, "there is a byte less than it needs");
        assert_eq!(other.count(), 0);
        drop(held);
        assert!(other.is_allowed("x").await);
    }
}
