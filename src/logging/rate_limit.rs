//! Limits the rate of log lines: each place in the code may write a few lines in a period. Further lines are counted,
//! and the count is written later. So a client cannot fill a disk, however fast it sends requests that are logged.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, debug, error, info, trace, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The length of the period for which the lines of a place are counted.
const PERIOD: Duration = Duration::from_secs(10);

/// The maximum number of lines that one place writes in a period at `info` and the levels above it.
const LINES: u32 = 10;

/// The maximum number of lines that one place writes in a period at `debug` and `trace`.
const DEBUG_LINES: u32 = 1000;

/// The maximum number of characters that the report of left-out lines repeats from their text.
const TEXT: usize = 200;

/// A layer that drops lines above the rate. It has no effect until [`run`](RateLimit::run) is called, so lines of the
/// start are never left out.
///
/// The `longtail` binary uses this layer. A program that embeds the server adds the layer to its own subscriber and
/// spawns `run`.
#[derive(Clone, Default)]
pub struct RateLimit(Arc<Limit>);

#[derive(Default)]
struct Limit {
    is_on: AtomicBool,
    /// The places in the code that have written lines. There are at most as many as the program has `tracing` macros.
    places: Mutex<HashMap<Identifier, Place>>,
}

/// A place in the code that writes log lines.
struct Place {
    level: Level,
    /// The text of its first line, without fields.
    text: String,
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl Place {
    fn new(event: &Event<'_>) -> Place {
        let mut text = Text(String::new());
        event.record(&mut text);
        let text = text.0.chars().take(TEXT).collect();
        Place { level: *event.metadata().level(), text, began: Instant::now(), lines: 0, left_out: 0 }
    }

    fn admits(&mut self, now: Instant) -> bool {
        if now - self.began >= PERIOD {
            (self.began, self.lines) = (now, 0);
        }
        let limit = if self.level <= Level::INFO { LINES } else { DEBUG_LINES };
        if self.lines < limit {
            self.lines += 1;
            return true;
        }
        self.left_out += 1;
        false
    }
}

impl RateLimit {
    /// Begins to limit the rate. In every period, it logs the number of lines that were left out.
    pub async fn run(self) {
        self.0.is_on.store(true, Ordering::Relaxed);
        loop {
            tokio::time::sleep(PERIOD).await;
            self.tell();
        }
    }

    /// Writes a line for each place whose lines were left out.
    pub fn tell(&self) {
        let mut places = self.0.places.lock();
        let left_out = places.values_mut().filter(|place| place.left_out > 0);
        let told: Vec<_> =
            left_out.map(|place| (place.level, place.text.clone(), std::mem::take(&mut place.left_out))).collect();
        // These lines also pass through this layer.
        drop(places);
        for (level, text, suppressed) in told {
            tell(level, &text, suppressed);
        }
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        if !self.0.is_on.load(Ordering::Relaxed) || is_own(event.metadata()) {
            return true;
        }
        let (now, callsite) = (Instant::now(), event.metadata().callsite());
        if let Some(place) = self.0.places.lock().get_mut(&callsite) {
            return place.admits(now);
        }
        // The text is formatted without the lock: the formatting may log or panic, and the log line of a panic also
        // passes through this layer.
        let place = Place::new(event);
        self.0.places.lock().entry(callsite).or_insert(place).admits(now)
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event)
    }
}

/// Whether this file itself writes the line. For each place, it writes at most one line in a period.
fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target() == module_path!()
}

fn tell(level: Level, text: &str, suppressed: u64) {
    macro_rules! line {
        ($level:ident) => {
            $level!(suppressed, "more lines were left out: {text}")
        };
    }
    match level {
        Level::ERROR => line!(error),
        Level::WARN => line!(warn),
        Level::INFO => line!(info),
        Level::DEBUG => line!(debug),
        Level::TRACE => line!(trace),
    }
}

/// The text of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// The text that was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        /// The number of lines with this text since the last check.
        fn count(&self, text: &str) -> usize {
            let lines = std::mem::take(&mut *self.0.lock());
            String::from_utf8_lossy(&lines).lines().filter(|line| line.contains(text)).count()
        }
    }

    fn subscriber() -> (RateLimit, Written, impl Subscriber + Send + Sync) {
        let (limit, written) = (RateLimit::default(), Written::default());
        let sink = written.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || sink.clone());
        let subscriber = tracing_subscriber::registry().with(limit.clone()).with(lines);
        (limit, written, subscriber)
    }

    fn flood(times: usize) {
        for n in 0..times {
            warn!(n, "a client came");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_writes_a_few_lines_in_a_period_and_then_how_many_it_left_out() {
        let (limit, written, subscriber) = subscriber();
        let _guard = tracing::subscriber::set_default(subscriber);
        flood(100);
        assert_eq!(written.count("a client came"), 100, "nothing is left out at the start");
        let running = tokio::spawn(limit.run());
        tokio::time::sleep(Duration::from_millis(1)).await;
        for round in 0..3 {
            flood(1000);
            assert_eq!(written.count("a client came"), 10, "round {round}");
            warn!("another place");
            assert_eq!(written.count("another place"), 1, "its own rate");
            tokio::time::sleep(PERIOD).await;
            assert_eq!(written.count("more lines were left out: a client came suppressed=990"), 1, "round {round}");
        }
        tokio::time::sleep(PERIOD * 3).await;
        assert_eq!(written.count(""), 0, "it is told once");
        running.abort();
    }

    /// A text that logs while it is formatted.
    struct Talkative;

    impl std::fmt::Display for Talkative {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            LIMIT.with_borrow(|limit| limit.tell());
            f.write_str("a text")
        }
    }

    thread_local! {
        static LIMIT: std::cell::RefCell<RateLimit> = std::cell::RefCell::default();
    }

    #[test]
    fn a_text_that_uses_the_log_while_it_is_formatted_does_not_block() {
        let (limit, written, subscriber) = subscriber();
        let _guard = tracing::subscriber::set_default(subscriber);
        limit.0.is_on.store(true, Ordering::Relaxed);
        LIMIT.set(limit);
        warn!("{Talkative}");
        assert_eq!(written.count("a text"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn each_level_has_a_rate_and_the_count_keeps_the_level() {
        let (limit, written, subscriber) = subscriber();
        let _guard = tracing::subscriber::set_default(subscriber);
        limit.0.is_on.store(true, Ordering::Relaxed);
        for n in 0..2000 {
            error!(target: "another_crate", n, "at error");
            info!(n, "at info");
            debug!(n, "at debug");
            trace!(n, "at trace");
        }
        let text = String::from_utf8(std::mem::take(&mut *written.0.lock())).unwrap_or_default();
        limit.tell();
        let told = String::from_utf8(std::mem::take(&mut *written.0.lock())).unwrap_or_default();
        for (level, word, lines) in [("ERROR", "error", 10), ("INFO", "info", 10)] {
            assert_eq!(text.matches(&format!("at {word}")).count(), lines, "{word}");
            let count = 2000 - lines;
            let line = format!("more lines were left out: at {word} suppressed={count}");
            assert!(told.lines().any(|told| told.contains(&line) && told.contains(level)), "{word}: {told}");
        }
    }
}
