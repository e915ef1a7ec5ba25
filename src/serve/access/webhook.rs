//! The application, asked over HTTP whether somebody may do something (`--authorize-url`).

use super::authorizer::Question;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

/// For an answer, the wait for a free connection included.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer.
const ANSWER_BYTES: usize = 64 << 10;

/// Questions under way at once, at most: an application of a few workers is not flooded by readers that return.
pub const AT_ONCE: usize = 64;

/// Bytes of the questions that are under way or whose answers are kept, and of those that are under way. Counted by
/// what they hold, since a user chooses how long his cookies are.
const KEPT: usize = 32 << 20;
const ASKING: usize = KEPT / 2;

/// Seconds that an answer without a `ttl` counts, and the bounds of one that has it.
const TTL: u64 = 60;
const TTL_MOST: u64 = 86_400;

/// A warning at most so often: an application that is down fails every question.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What came of a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These channels, until then.
    Allowed {
        /// Their names.
        channels: Arc<HashSet<String>>,
        /// When it is to be asked again.
        until: Instant,
    },
    /// 401: nobody is signed in.
    Unauthorized,
    /// Another status.
    Refused,
    /// No answer, or none that can be understood.
    Failed,
}

#[derive(Deserialize)]
struct Body {
    channels: HashSet<String>,
    #[serde(default)]
    ttl: Option<u64>,
}

/// A question's own task, which comes to its end whether or not anybody waits for it.
type Asking = Shared<BoxFuture<'static, Answer>>;

enum Entry {
    /// Under way; whoever asks the same waits for the same answer. It is replaced by that task.
    Asking(Asking),
    /// Known until then.
    Known(Arc<HashSet<String>>, Instant),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

struct Metrics {
    questions: Family<Outcome, Counter>,
    seconds: Histogram,
}

/// The application.
pub struct Application(Arc<Asked>);

struct Asked {
    cache: Mutex<Cache>,
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    free: Semaphore,
    metrics: Metrics,
    warned: Mutex<Option<Instant>>,
}

impl Application {
    /// The application at this address, which is `http:` or `https:`, asked so many questions at once.
    ///
    /// # Errors
    ///
    /// The address is `https:`, and the system's certificates cannot be read.
    pub fn new(uri: Uri, at_once: usize, registry: &mut Registry) -> std::io::Result<Application> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(TIMEOUT));
        http.set_nodelay(true);
        http.enforce_http(false);
        // A machine without certificates can speak plain HTTP all the same.
        let https = match uri.scheme_str() {
            Some("https") => HttpsConnectorBuilder::new().with_native_roots()?,
            _ => HttpsConnectorBuilder::new().with_tls_config(
                ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
            ),
        };
        let https = https.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(at_once)
            .build(https);
        let metrics = Metrics { questions: Family::default(), seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0]) };
        registry.register(
            "authorize_questions",
            "Questions whether somebody may subscribe or publish, by what came of them",
            metrics.questions.clone(),
        );
        registry.register("authorize_seconds", "Time the application took to answer", metrics.seconds.clone());
        let (cache, free, warned) = (Mutex::default(), Semaphore::new(at_once), Mutex::new(None));
        Ok(Application(Arc::new(Asked { cache, uri, client, free, metrics, warned })))
    }

    /// Asks, or answers from what is known.
    ///
    /// # Cancel safety
    ///
    /// A question that was asked is asked to its end, and its answer is kept.
    pub async fn ask(&self, question: Question) -> Answer {
        let asking = {
            let mut cache = self.0.cache.lock();
            let under_way = match cache.entries.get(&question) {
                Some(Entry::Known(channels, until)) if Instant::now() < *until => {
                    self.0.metrics.count("known");
                    return Answer::Allowed { channels: channels.clone(), until: *until };
                }
                Some(Entry::Asking(asking)) => Some(asking.clone()),
                _ => None,
            };
            match under_way {
                Some(asking) => asking,
                None if cache.make_room(size_of(&question)) => {
                    let asking = self.0.clone().begin(question.clone());
                    cache.insert(question, asking.clone());
                    asking
                }
                None => {
                    drop(cache);
                    self.0.metrics.count("failed");
                    return self.0.failed("too many questions wait for its answers");
                }
            }
        };
        asking.await
    }
}

/// Answers that are known or under way.
#[derive(Default)]
struct Cache {
    entries: HashMap<Question, Entry>,
    /// What the entries hold, and those of them that are under way.
    bytes: usize,
    asking: usize,
}

impl Cache {
    /// Whether one more question of this size may be asked. Forgets answers for it where it has to.
    fn make_room(&mut self, size: usize) -> bool {
        if self.asking + size > ASKING {
            return false;
        }
        if self.bytes + size > KEPT {
            let now = Instant::now();
            self.retain_known(|until| now < until);
        }
        // All of them count still: half goes, and is asked for again. In the end none is left, and what is under way
        // leaves room.
        while self.bytes + size > KEPT {
            let mut keep = true;
            self.retain_known(|_| {
                keep = !keep;
                keep
            });
        }
        true
    }

    fn retain_known(&mut self, mut keep: impl FnMut(Instant) -> bool) {
        let bytes = &mut self.bytes;
        self.entries.retain(|question, entry| {
            let stays = match entry {
                Entry::Known(_, until) => keep(*until),
                Entry::Asking(_) => true,
            };
            if !stays {
                *bytes -= size_of(question);
            }
            stays
        });
    }

    fn insert(&mut self, question: Question, asking: Asking) {
        let size = size_of(&question);
        self.asking += size;
        if self.entries.insert(question, Entry::Asking(asking)).is_none() {
            self.bytes += size;
        }
    }

    /// What came of a question that was under way.
    fn settle(&mut self, question: Question, answer: &Answer) {
        let size = size_of(&question);
        self.asking -= size;
        match answer {
            Answer::Allowed { channels, until } => {
                self.entries.insert(question, Entry::Known(channels.clone(), *until));
            }
            _ => {
                self.entries.remove(&question);
                self.bytes -= size;
            }
        }
    }
}

/// About how much memory a question takes with its answer, which names no channel that the question does not.
fn size_of(question: &Question) -> usize {
    let asker = &question.asker;
    let headers = [asker.origin(), asker.cookie(), asker.authorization()].into_iter().flatten();
    let names: usize = question.channels.iter().map(|channel| 2 * channel.as_str().len() + 128).sum();
    640 + names + headers.map(|header| header.len()).sum::<usize>()
}

impl Metrics {
    fn count(&self, outcome: &'static str) {
        self.questions.get_or_create(&Outcome { outcome }).inc();
    }
}

impl Asked {
    /// Asks, in a task of its own: who waits may go at any time, and a future that nobody polls would keep its place
    /// among those that are asked at once, and be told an old answer as a new one.
    fn begin(self: Arc<Asked>, question: Question) -> Asking {
        let task = tokio::spawn(async move {
            let answer = self.ask(&question).await;
            self.cache.lock().settle(question, &answer);
            answer
        });
        task.map(|answer| answer.unwrap_or(Answer::Failed)).boxed().shared()
    }

    async fn ask(&self, question: &Question) -> Answer {
        let began = Instant::now();
        let answer = match tokio::time::timeout(TIMEOUT, self.request(question)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => self.failed(&why),
            Err(_) => self.failed("no answer within 2 s"),
        };
        self.metrics.seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.count(match answer {
            Answer::Allowed { .. } => "allowed",
            Answer::Unauthorized => "unauthorized",
            Answer::Refused => "refused",
            Answer::Failed => "failed",
        });
        answer
    }

    async fn request(&self, question: &Question) -> Result<Answer, String> {
        let _free = self.free.acquire().await.map_err(|error| error.to_string())?;
        let asker = &question.asker;
        let channels: Vec<&str> = question.channels.iter().map(|channel| channel.as_str()).collect();
        let body = serde_json::json!({
            "action": question.action.as_str(),
            "channels": channels,
            "client": question.client.as_ref().map(ToString::to_string),
            "transport": asker.transport,
            "ip": asker.ip.to_string(),
            "origin": asker.origin().map(|origin| String::from_utf8_lossy(origin.as_bytes())),
        });
        let mut request = Request::builder().method(Method::POST).uri(self.uri.clone());
        request = request.header(CONTENT_TYPE, "application/json");
        for (name, value) in [(COOKIE, asker.cookie()), (AUTHORIZATION, asker.authorization())] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::from(body.to_string())).map_err(|error| error.to_string())?;
        // Its cause names the address, which may hold a secret; its kind says enough.
        let answer = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { "no connection".to_owned() } else { "the connection broke".to_owned() }
        })?;
        let (began, status) = (Instant::now(), answer.status());
        if status == StatusCode::UNAUTHORIZED {
            return Ok(Answer::Unauthorized);
        }
        if status.is_server_error() {
            return Err(format!("status {}", status.as_u16()));
        }
        if status != StatusCode::OK {
            return Ok(Answer::Refused);
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|_| format!("an answer that broke off, or over {ANSWER_BYTES} bytes"))?.to_bytes();
        let rule = "its answer is {\"channels\":[\"…\"],\"ttl\":60}";
        let Body { mut channels, ttl } = serde_json::from_slice(&body).map_err(|_| rule.to_owned())?;
        // It may name all that the user may read; what was not asked for is not kept.
        channels.retain(|name| question.channels.iter().any(|channel| channel.as_str() == name));
        // A little less, by chance: readers that came together do not ask together again.
        let ttl = Duration::from_secs(ttl.unwrap_or(TTL).clamp(1, TTL_MOST)).mul_f64(0.9 + fastrand::f64() / 10.0);
        Ok(Answer::Allowed { channels: Arc::new(channels), until: began + ttl })
    }

    fn failed(&self, why: &str) -> Answer {
        let mut warned = self.warned.lock();
        if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
            *warned = Some(Instant::now());
            warn!(why, "the application at --authorize-url did not decide, so what is asked is refused; see to it");
        }
        Answer::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::access::authorizer::Action;
    use crate::serve::access::credentials::Asker;
    use futures_util::future::join_all;
    use hyper::HeaderMap;
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    /// An application that takes 100 ms to allow `a` for a second, or says nothing.
    struct Other {
        application: Application,
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
            let application = Application::new(uri, AT_ONCE, &mut Registry::default()).expect("an application");
            Other { application, is_silent, asked }
        }

        fn count(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        async fn is_allowed(&self, cookie: &str) -> bool {
            matches!(self.application.ask(question(cookie)).await, Answer::Allowed { channels, .. } if channels.len() == 1)
        }
    }

    fn question(cookie: &str) -> Question {
        let headers = HeaderMap::from_iter([(COOKIE, cookie.parse().expect("a header"))]);
        let asker = Asker::new(IpAddr::from([127, 0, 0, 1]), "poll", &headers, true);
        Question { action: Action::Subscribe, channels: vec!["a".parse().expect("a channel")], client: None, asker }
    }

    #[tokio::test]
    async fn who_goes_away_keeps_no_place() {
        let other = Other::start().await;
        other.is_silent.store(true, Ordering::SeqCst);
        let cookies: Vec<String> = (0..AT_ONCE).map(|n| format!("n={n}")).collect();
        let left = cookies.iter().map(|cookie| timeout(Duration::from_millis(300), other.is_allowed(cookie)));
        assert!(join_all(left).await.iter().all(Result::is_err), "none of them waited for an answer");
        other.is_silent.store(false, Ordering::SeqCst);
        let healed = async { while !other.is_allowed("another").await {} };
        timeout(Duration::from_secs(6), healed).await.expect("the others' places to be free");
        let cache = other.application.0.cache.lock();
        assert_eq!((cache.entries.len(), cache.asking), (1, 0));
        assert_eq!(cache.bytes, size_of(&question("another")));
    }

    #[tokio::test]
    async fn an_answer_counts_from_when_it_was_given() {
        let other = Other::start().await;
        assert!(timeout(Duration::from_millis(50), other.is_allowed("x")).await.is_err());
        timeout(Duration::from_secs(5), async {
            while other.count() == 0 || other.application.0.cache.lock().asking > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("its end");
        // Kept for who comes in time, and no longer.
        assert!(other.is_allowed("x").await);
        assert_eq!(other.count(), 1);
        sleep(Duration::from_millis(1100)).await;
        assert!(other.is_allowed("x").await);
        assert_eq!(other.count(), 2);
    }

    #[tokio::test]
    async fn answers_are_bounded_by_what_they_hold() {
        let mut cache = Cache::default();
        let answer = Answer::Allowed { channels: Arc::default(), until: Instant::now() + Duration::from_secs(60) };
        let junk = "x".repeat(30_000);
        for n in 0..3000 {
            let question = question(&format!("{n}{junk}"));
            assert!(cache.make_room(size_of(&question)));
            cache.insert(question.clone(), async { Answer::Failed }.boxed().shared());
            cache.settle(question, &answer);
            assert!(cache.bytes <= KEPT, "{n}");
        }
        assert_eq!(cache.bytes, cache.entries.keys().map(size_of).sum::<usize>());
        assert!(cache.entries.len() > 500, "{}", cache.entries.len());
        // What is under way is not forgotten, and not more of it taken on.
        let mut under_way = 0;
        loop {
            let question = question(&format!("y{under_way}{junk}"));
            if !cache.make_room(size_of(&question)) {
                break;
            }
            cache.insert(question, async { Answer::Failed }.boxed().shared());
            under_way += 1;
            assert!(cache.bytes <= KEPT);
        }
        assert_eq!(under_way, ASKING / size_of(&question(&format!("y000{junk}"))));
    }
}
