//! The signs of life of a connection.
//!
//! In Engine.IO 4 the server asks (`2`) and the client answers (`3`). It asks on schedule, also on a busy connection:
//! clients do not count other packets. In Engine.IO 3 the client asks.

use super::settings::SocketIoSettings;
use std::time::Duration;
use tokio::time::Instant;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The server has to ask.
    Ping,
    /// The client is silent for too long.
    Silence,
}

/// The times of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    server_asks: bool,
    /// The time of the next ping.
    ping_at: Instant,
    /// The time up to which the client has to show a sign of life.
    silent_at: Instant,
}

impl Heartbeat {
    /// A connection that begins now.
    pub fn new(settings: &SocketIoSettings, server_asks: bool, now: Instant) -> Heartbeat {
        let (interval, timeout) = (settings.ping_interval, settings.ping_timeout);
        let silent_at = now + interval + timeout;
        Heartbeat { interval, timeout, server_asks, ping_at: now + interval, silent_at }
    }

    /// The same, for a client that got its last ping this time ago.
    pub fn after_ping(self, ago: Duration) -> Heartbeat {
        Heartbeat { ping_at: self.ping_at.checked_sub(ago).unwrap_or(self.ping_at), ..self }
    }

    /// When something is due next.
    pub fn next(&self) -> Instant {
        if self.server_asks { self.ping_at.min(self.silent_at) } else { self.silent_at }
    }

    /// What is due now. After a ping, the next one is due after the next interval.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if now >= self.silent_at {
            return Some(Due::Silence);
        }
        if self.server_asks && now >= self.ping_at {
            self.ping_at = now + self.interval;
            return Some(Due::Ping);
        }
        None
    }

    /// Notes a sign of life: a pong, or in Engine.IO 3 any packet.
    pub fn heard(&mut self, now: Instant) {
        self.silent_at = now + self.interval + self.timeout;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SocketIoSettings {
        SocketIoSettings {
            joins: Vec::new(),
            rules: Vec::new(),
            ping_interval: Duration::from_millis(300),
            ping_timeout: Duration::from_millis(200),
            connect_timeout: Duration::from_secs(1),
            max_payload: 1000,
            max_connections: 10,
        }
    }

    #[test]
    fn the_server_of_version_4_asks_on_schedule() {
        let (begin, ms) = (Instant::now(), Duration::from_millis);
        let mut heartbeat = Heartbeat::new(&settings(), true, begin);
        assert_eq!((heartbeat.next(), heartbeat.due(begin + ms(299))), (begin + ms(300), None));
        assert_eq!(heartbeat.due(begin + ms(300)), Some(Due::Ping));
        heartbeat.heard(begin + ms(310));
        assert_eq!(heartbeat.due(begin + ms(600)), Some(Due::Ping));
        assert_eq!(heartbeat.due(begin + ms(810)), Some(Due::Silence));
    }

    #[test]
    fn the_client_of_version_3_asks() {
        let (begin, ms) = (Instant::now(), Duration::from_millis);
        let mut heartbeat = Heartbeat::new(&settings(), false, begin);
        assert_eq!((heartbeat.next(), heartbeat.due(begin + ms(499))), (begin + ms(500), None));
        heartbeat.heard(begin + ms(400));
        assert_eq!(heartbeat.due(begin + ms(899)), None);
        assert_eq!(heartbeat.due(begin + ms(900)), Some(Due::Silence));
    }
}
