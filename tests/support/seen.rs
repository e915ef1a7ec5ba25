//! The objects that came while a test waited: a wait that fails shows the last ones.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many different objects are kept for one wait, and how many characters of each.
const KEPT: usize = 4;
const CHARACTERS: usize = 400;

tokio::task_local! {
    static SEEN: Arc<Seen>;
}

/// The last objects that came during one wait, each with the number of times that it came in a row.
#[derive(Default)]
pub struct Seen {
    last: Mutex<VecDeque<(String, usize)>>,
    /// The outer wait, which is also shown.
    outer: Option<Arc<Seen>>,
}

impl Seen {
    fn note(&self, text: &str) {
        let mut last = self.last.lock().expect("no panic within");
        match last.back_mut() {
            Some((same, times)) if same == text => *times += 1,
            _ => {
                if last.len() == KEPT {
                    last.pop_front();
                }
                last.push_back((text.to_owned(), 1));
            }
        }
        drop(last);
        if let Some(outer) = &self.outer {
            outer.note(text);
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.last.lock().expect("no panic within");
        if last.is_empty() {
            write!(f, "nothing came")?;
        } else {
            write!(f, "the last that came:")?;
        }
        for (text, times) in last.iter() {
            let times = if *times == 1 { String::new() } else { format!(" ({times} times)") };
            write!(f, "\n  {text}{times}")?;
        }
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        write!(f, "\n  (load of the machine: {})", load.trim())
    }
}

/// Records an object that came: an answer, a line, a message. It costs nothing if no test waits.
pub fn came(text: impl FnOnce() -> String) {
    let noted = RefCell::new(Some(text));
    SEEN.try_with(|seen| {
        let Some(text) = noted.take() else { return };
        let text = text();
        let cut = text.char_indices().nth(CHARACTERS).map_or(text.len(), |(at, _)| at);
        seen.note(if cut < text.len() { format!("{} […]", &text[..cut]) } else { text }.as_str());
    })
    .ok();
}

/// Awaits `future` for this time; returns its result, and the objects that came in the meantime.
pub async fn watched<T>(limit: Duration, future: impl Future<Output = T>) -> (Option<T>, Arc<Seen>) {
    let outer = SEEN.try_with(Arc::clone).ok();
    let seen = Arc::new(Seen { last: Mutex::default(), outer });
    // The future is on the heap, because waits are nested and a test thread's stack is small.
    let value = SEEN.scope(seen.clone(), tokio::time::timeout(limit, Box::pin(future))).await;
    (value.ok(), seen)
}

/// The answer to a question that is asked again until it is the wanted one.
pub trait Answer {
    type Value;
    /// Returns the wanted value, or records the object that came in its place.
    fn wanted(self) -> Option<Self::Value>;
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn wanted(self) -> Option<T> {
        self
    }
}

/// The error is recorded as the object that came in place of the wanted value.
impl<T, E: fmt::Debug> Answer for Result<T, E> {
    type Value = T;

    fn wanted(self) -> Option<T> {
        self.map_err(|error| came(|| format!("{error:?}"))).ok()
    }
}
