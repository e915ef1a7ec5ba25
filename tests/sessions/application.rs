//! An application that answers the calls of the hook by a rule, and records them.

use crate::support::application::ServerRequest;
use crate::support::eventually;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

pub struct Application {
    pub url: String,
    calls: Arc<Mutex<Vec<Value>>>,
    at_once: Arc<AtomicUsize>,
}

impl Application {
    /// `rule` returns the status and the body of the answer to a call. The answer takes `delay_ms` of the body.
    pub async fn start(rule: impl Fn(&Value) -> (u16, Value) + Send + Sync + 'static) -> Application {
        Application::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), rule).await
    }

    /// The same at an address.
    pub async fn start_at(
        address: SocketAddr,
        rule: impl Fn(&Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Application {
        let listener = TcpListener::bind(address).await.expect("an address");
        let url = format!("http://{}/hook.php", listener.local_addr().expect("an address"));
        let calls = Arc::<Mutex<Vec<_>>>::default();
        let (noted, rule) = (calls.clone(), Arc::new(rule));
        let (now, at_once) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let most = at_once.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (calls, rule, now, most) = (noted.clone(), rule.clone(), now.clone(), most.clone());
                tokio::spawn(async move {
                    let Some(request) = ServerRequest::read(&mut stream).await else { return };
                    let call: Value = serde_json::from_str(&request.body).expect("JSON");
                    let (status, body) = rule(&call);
                    calls.lock().expect("calls").push(call);
                    if let Some(delay) = body["delay_ms"].as_u64() {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(delay)).await;
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                    let body = if status == 204 { String::new() } else { body.to_string() };
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                    let _ = stream.write_all(format!("{answer}{body}").as_bytes()).await;
                });
            }
        });
        Application { url, calls, at_once }
    }

    /// How many answers with a delay there were at once.
    pub fn at_once(&self) -> usize {
        self.at_once.load(Ordering::SeqCst)
    }

    /// All calls so far, in their order.
    pub fn all(&self) -> Vec<Value> {
        self.calls.lock().expect("calls").clone()
    }

    /// The calls of a type so far, in their order.
    pub fn calls(&self, kind: &str) -> Vec<Value> {
        let calls = self.calls.lock().expect("calls");
        calls.iter().filter(|call| call["type"] == kind).cloned().collect()
    }

    /// Waits for so many calls of a type.
    pub async fn wait(&self, kind: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} calls of the type {kind}"), async || {
            Some(self.calls(kind)).filter(|calls| calls.len() >= count)
        })
        .await
    }
}
