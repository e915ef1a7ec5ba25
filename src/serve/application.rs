//! The application, asked over HTTP whether somebody may do something (`--authorize-url`).

use super::authorize::Question;
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

/// Questions under way at once: an application of a few workers is not flooded by readers that return.
const AT_ONCE: usize = 64;

/// Answers that are kept.
const KEPT: usize = 50_000;

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

type Asking = Shared<BoxFuture<'static, Answer>>;

enum Entry {
    /// Under way; whoever asks the same waits for the same answer.
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
pub struct Application {
    asked: Arc<Asked>,
    cache: Mutex<HashMap<Question, Entry>>,
}

struct Asked {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    free: Semaphore,
    metrics: Metrics,
    warned: Mutex<Option<Instant>>,
}

impl Application {
    /// The application at this address, which is `http:` or `https:`.
    ///
    /// # Errors
    ///
    /// The address is `https:`, and the system's certificates cannot be read.
    pub fn new(uri: Uri, registry: &mut Registry) -> std::io::Result<Application> {
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
            .pool_max_idle_per_host(AT_ONCE)
            .build(https);
        let metrics = Metrics { questions: Family::default(), seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0]) };
        registry.register(
            "authorize_questions",
            "Questions whether somebody may subscribe or publish, by what came of them",
            metrics.questions.clone(),
        );
        registry.register("authorize_seconds", "Time the application took to answer", metrics.seconds.clone());
        let asked = Asked { uri, client, free: Semaphore::new(AT_ONCE), metrics, warned: Mutex::new(None) };
        Ok(Application { asked: Arc::new(asked), cache: Mutex::default() })
    }

    /// Asks, or answers from what is known.
    pub async fn ask(&self, question: Question) -> Answer {
        let asking = {
            let mut cache = self.cache.lock();
            match cache.get(&question) {
                Some(Entry::Known(channels, until)) if Instant::now() < *until => {
                    self.asked.metrics.count("known");
                    return Answer::Allowed { channels: channels.clone(), until: *until };
                }
                // One that failed is not waited for again; nobody may have cleared it away.
                Some(Entry::Asking(asking)) if asking.peek().is_none() => asking.clone(),
                _ => {
                    make_room(&mut cache);
                    let (asked, question_) = (self.asked.clone(), question.clone());
                    let asking = async move { asked.ask(&question_).await }.boxed().shared();
                    cache.insert(question.clone(), Entry::Asking(asking.clone()));
                    asking
                }
            }
        };
        let answer = asking.await;
        let mut cache = self.cache.lock();
        match &answer {
            Answer::Allowed { channels, until } => {
                cache.insert(question, Entry::Known(channels.clone(), *until));
            }
            // Another may be asking again already.
            _ => {
                if matches!(cache.get(&question), Some(Entry::Asking(asking)) if asking.peek().is_some()) {
                    cache.remove(&question);
                }
            }
        }
        answer
    }
}

fn make_room(cache: &mut HashMap<Question, Entry>) {
    if cache.len() < KEPT {
        return;
    }
    let now = Instant::now();
    cache.retain(|_, entry| matches!(entry, Entry::Known(_, until) if now < *until));
    if cache.len() >= KEPT {
        // All of them count still: half goes, and is asked for again.
        let mut keep = false;
        cache.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
}

impl Metrics {
    fn count(&self, outcome: &'static str) {
        self.questions.get_or_create(&Outcome { outcome }).inc();
    }
}

impl Asked {
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
            "origin": asker.origin.as_ref().map(|origin| String::from_utf8_lossy(origin.as_bytes())),
        });
        let mut request = Request::builder().method(Method::POST).uri(self.uri.clone());
        request = request.header(CONTENT_TYPE, "application/json");
        for (name, value) in [(COOKIE, &asker.cookie), (AUTHORIZATION, &asker.authorization)] {
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
        let Body { channels, ttl } = serde_json::from_slice(&body).map_err(|_| rule.to_owned())?;
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
