//! A connection's other end, and where a connection changes hands.

use super::access_log::Entry;
use crate::serve::App;
use crate::serve::access::origin::{self, Door};
use crate::serve::limits::connections::{Admission, Kind, Place};
use crate::serve::limits::memory::Buffer;
use crate::serve::routes::response::Body;
use crate::serve::session::commands::Commands;
use crate::serve::session::long_poll::Waiting;
use crate::serve::session::pump::Pump;
use crate::serve::session::stream::Framing;
use crate::transport::Transport;
use hyper::HeaderMap;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// What is known of a connection's other end.
#[derive(Clone)]
pub struct Client {
    /// Whether it is one connection too many, which is only told so.
    pub is_over: bool,
    /// Where it comes from: the address behind the proxies that are trusted.
    pub ip: IpAddr,
    /// Whether it came without TLS to where it should not.
    pub wants_tls: bool,
    /// Whether a trusted proxy has said whose connection it is (the PROXY protocol).
    pub is_passed_on: bool,
    /// Which listener it came to.
    pub door: Door,
    /// The host that its request was sent to before a trusted proxy changed it.
    forwarded_host: Option<Arc<String>>,
    /// Its request's place among those of its address, where a proxy's connection carries many.
    pub place: Option<Arc<Place>>,
    /// Where a response leaves what goes on when its head is written; `None` while nobody asks for anything.
    pub handover: Option<Arc<Handover>>,
    /// For as long as anybody speaks with it.
    pub counted: Counted,
}

/// A connection is counted, and the server has not ended, as long as there is one of these.
#[derive(Clone)]
pub struct Counted {
    _admission: Arc<Admission>,
    _alive: mpsc::Sender<()>,
}

impl Client {
    /// Counts a connection in; nothing: it is to be closed at once.
    pub fn admit(app: &App, ip: IpAddr, door: Door, alive: &mpsc::Sender<()>) -> Option<Client> {
        let admission = app.admission(ip, door, Kind::Socket);
        if admission.as_ref().is_none_or(|admission| admission.is_over) {
            app.refused.because("connection_limit");
        }
        let admission = admission?;
        Some(Client {
            is_over: admission.is_over,
            ip,
            wants_tls: false,
            is_passed_on: false,
            door,
            forwarded_host: None,
            place: None,
            handover: None,
            counted: Counted { _admission: Arc::new(admission), _alive: alive.clone() },
        })
    }

    /// The same client, for one stream of its connection. A stream counts like a connection, or one connection would be
    /// a way around the limits. `None`: it is to be refused without a word.
    pub fn of_stream(&self, app: &App) -> Option<Client> {
        let admission = app.admission(self.ip, self.door, Kind::Stream)?;
        let is_over = self.is_over || admission.is_over;
        let counted = Counted { _admission: Arc::new(admission), ..self.counted.clone() };
        Some(Client { is_over, handover: Some(Arc::default()), counted, ..self.clone() })
    }

    /// Who a request comes from, where proxies that are trusted have passed it on; `None`: this client itself.
    pub fn behind_proxies(&self, app: &App, headers: &HeaderMap) -> Option<Client> {
        if !app.proxies.trusts(self.ip) || self.door != Door::Public {
            return None;
        }
        let forwarded_host = app.proxies.host(self.ip, headers).map(|host| Arc::new(host.into()));
        let ip = app.proxies.client(self.ip, headers);
        let place = app.connections.place(ip);
        let is_over = self.is_over || place.is_err();
        Some(Client { ip, forwarded_host, is_over, place: place.ok().flatten().map(Arc::new), ..self.clone() })
    }

    /// Where a response leaves what goes on. A client that asks has one; by itself it would lead nowhere.
    pub fn handover(&self) -> Arc<Handover> {
        self.handover.clone().unwrap_or_default()
    }

    /// The host that its request was sent to before a trusted proxy changed it.
    pub fn forwarded_host(&self) -> Option<&str> {
        self.forwarded_host.as_ref().map(|host| host.as_str())
    }

    /// The host that a request was sent to, without its port.
    pub fn host<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        origin::host(headers, self.forwarded_host())
    }
}

/// What takes a connection over from hyper.
pub enum Taken {
    /// A stream, behind a head that promised this framing, and whether requests may follow it.
    Stream(Pump, Framing, bool),
    /// A long poll that waits.
    Poll(Box<Waiting>),
    /// A WebSocket, behind a 101.
    Duplex(&'static dyn Transport, Pump, Commands),
}

/// Where a connection changes hands.
#[derive(Default)]
pub struct Handover {
    taken: Mutex<Option<Box<Taken>>>,
    reached: AtomicBool,
    /// The body that was given to hyper last.
    reply: Mutex<Buffer>,
    /// Whether a publish that is being answered has its place in the log's order.
    is_queued: AtomicBool,
}

impl Handover {
    pub fn leave(&self, taken: Taken) {
        *self.taken.lock() = Some(Box::new(taken));
    }

    /// Hyper has taken the head, and asks for a body.
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub fn reach(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Writes a request down when what was left here ends; at once where nothing was left.
    pub fn log(&self, entry: Entry) {
        if let Some(Taken::Stream(pump, ..) | Taken::Duplex(_, pump, _)) = self.taken.lock().as_deref_mut() {
            pump.log(entry);
        }
    }

    /// Notes the body that is given to hyper.
    pub fn replied(&self, body: &Body) {
        if let Body::Whole(Some(bytes)) = body {
            *self.reply.lock() = Buffer::of(bytes);
        }
    }

    /// That body.
    pub fn reply(&self) -> Buffer {
        *self.reply.lock()
    }

    pub fn is_queued(&self) -> bool {
        self.is_queued.load(Ordering::Relaxed)
    }

    pub fn set_queued(&self, is_queued: bool) {
        self.is_queued.store(is_queued, Ordering::Relaxed);
    }

    pub fn take(&self) -> Option<Box<Taken>> {
        self.reached.store(false, Ordering::Relaxed);
        self.taken.lock().take()
    }
}
