//! Writes lines from a separate thread, so that callers do not wait for the disk, the pipe or the terminal.

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The maximum length of a line. A longer line is cut.
const LONGEST_LINE: usize = 16 << 10;

/// The maximum number of bytes of one write. Up to this size, lines of several processes do not mix in a pipe
/// (PIPE_BUF, pipe(7)).
const ATOMIC: usize = 4096;

/// The pause before the next attempt, if a non-blocking descriptor cannot accept bytes.
const RETRY: Duration = Duration::from_millis(20);

/// The minimum time between two notices that lines were dropped.
const NOTICE_PERIOD: Duration = Duration::from_secs(1);

/// The notices that the thread sends to its owner.
pub enum Notice<'a> {
    /// Lines cannot be written. The thread sends this notice once, until a write succeeds again.
    Failed(&'a io::Error),
    /// Lines are written again, and some were dropped before.
    Resumed {
        /// The number of lines that were dropped since the last notice.
        dropped: u64,
        /// The number of lines that were dropped since the start.
        in_all: u64,
    },
}

/// A bounded queue of lines, and the thread that writes them. If there is no room for a line, or if it cannot be
/// written, the line is dropped and counted.
///
/// A clone writes to the same queue. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub struct LineWriter(Arc<Handle>);

struct Handle(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// The maximum number of bytes in the queue.
    capacity: usize,
    has_work: Condvar,
    is_idle: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Whether the thread is writing lines that it has taken from the queue.
    is_writing: bool,
    /// Whether the last clone was dropped, so that no more lines can follow.
    is_closed: bool,
}

impl LineWriter {
    /// Starts the thread. The queue holds at most `capacity` bytes. `notify` runs in the thread; it may write lines to
    /// this writer.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub fn start(
        name: &str,
        capacity: usize,
        sink: impl Write + Send + 'static,
        notify: impl FnMut(Notice<'_>) + Send + 'static,
    ) -> io::Result<LineWriter> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            capacity,
            has_work: Condvar::new(),
            is_idle: Condvar::new(),
            dropped: Counter::default(),
        });
        let mut writing = Writing { shared: shared.clone(), sink, notify, is_cut: false, is_failing: false, told: 0 };
        thread::Builder::new().name(name.into()).spawn(move || writing.run())?;
        Ok(LineWriter(Arc::new(Handle(shared))))
    }

    /// Queues a line. This function never waits for the sink. If the line end is missing, it is added.
    pub fn line(&self, line: &[u8]) {
        let shared = &self.0.0;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() {
            return;
        }
        let cut = line.len().min(LONGEST_LINE);
        let mut queue = shared.queue.lock();
        if queue.lines.len() + cut > shared.capacity {
            shared.dropped.inc();
            return;
        }
        queue.lines.extend_from_slice(&line[..cut]);
        queue.lines.extend_from_slice(if cut < line.len() { b"[cut]\n" } else { b"\n" });
        drop(queue);
        shared.has_work.notify_one();
    }

    /// Waits until all lines are written or dropped, but not longer than the timeout.
    pub fn flush(&self, limit: Duration) {
        let (shared, deadline) = (&self.0.0, Instant::now() + limit);
        let mut queue = shared.queue.lock();
        while queue.is_writing || !queue.lines.is_empty() {
            if shared.is_idle.wait_until(&mut queue, deadline).timed_out() {
                return;
            }
        }
    }

    /// Counts the lines that were dropped.
    pub fn dropped(&self) -> &Counter {
        &self.0.0.dropped
    }
}

/// Each call of `write` is one line.
impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.lock().is_closed = true;
        self.0.has_work.notify_one();
    }
}

/// The thread's side.
struct Writing<S, N> {
    shared: Arc<Shared>,
    sink: S,
    notify: N,
    /// Whether only a part of the last line was written.
    is_cut: bool,
    /// Whether the last write failed.
    is_failing: bool,
    /// The number of dropped lines that were reported to the owner.
    told: u64,
}

impl<S: Write, N: FnMut(Notice<'_>)> Writing<S, N> {
    fn run(&mut self) {
        let (mut lines, mut told_at) = (Vec::new(), None::<Instant>);
        while self.take(&mut lines) {
            match self.write(&lines) {
                Ok(()) => self.is_failing = false,
                Err((error, rest)) => {
                    let lost = lines[rest..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
                    self.shared.dropped.inc_by(lost as u64);
                    // If nothing was written now, the earlier line may still lack its end.
                    self.is_cut = if rest > 0 { lines[rest - 1] != b'\n' } else { self.is_cut };
                    if !std::mem::replace(&mut self.is_failing, true) {
                        (self.notify)(Notice::Failed(&error));
                    }
                }
            }
            let in_all = self.shared.dropped.get();
            let is_time = told_at.is_none_or(|at| at.elapsed() >= NOTICE_PERIOD);
            if !self.is_failing && in_all > self.told && is_time {
                (self.notify)(Notice::Resumed { dropped: in_all - self.told, in_all });
                (self.told, told_at) = (in_all, Some(Instant::now()));
            }
        }
    }

    /// Takes all lines from the queue. Returns false when no more lines can follow.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        // After a burst of lines, the queue must not keep the memory of the burst.
        lines.shrink_to(ATOMIC);
        let mut queue = self.shared.queue.lock();
        queue.is_writing = false;
        while queue.lines.is_empty() {
            self.shared.is_idle.notify_all();
            if queue.is_closed {
                return false;
            }
            self.shared.has_work.wait(&mut queue);
        }
        queue.is_writing = true;
        std::mem::swap(&mut queue.lines, lines);
        true
    }

    /// Writes lines, and puts several lines into one write. The error includes the position of the first byte that was
    /// not written.
    fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let mut at = 0;
        if self.is_cut {
            // If only a part of a line was written, the next bytes must not look like its continuation.
            write_all(&mut self.sink, b"\n").map_err(|(error, _)| (error, 0))?;
            self.is_cut = false;
        }
        while at < lines.len() {
            let part = whole_lines(&lines[at..]);
            write_all(&mut self.sink, part).map_err(|(error, written)| (error, at + written))?;
            at += part.len();
        }
        Ok(())
    }
}

/// Returns the whole lines that fit into one write, and at least one line.
fn whole_lines(lines: &[u8]) -> &[u8] {
    let fitting = &lines[..lines.len().min(ATOMIC)];
    let end = memchr::memrchr(b'\n', fitting).or_else(|| memchr::memchr(b'\n', lines));
    &lines[..end.map_or(lines.len(), |end| end + 1)]
}

fn write_all(sink: &mut impl Write, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return Err((ErrorKind::WriteZero.into(), written)),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares the descriptor may have made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(RETRY),
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(60);

    /// The reaction of a test's sink to a write.
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Takes,
        /// The sink takes this many bytes, and then fails.
        TakesThenFails(usize),
        Fails,
        Blocks,
    }

    #[derive(Clone)]
    struct Sink(Arc<Mutex<(Mode, Vec<u8>)>>);

    impl Sink {
        fn new(mode: Mode) -> Sink {
            Sink(Arc::new(Mutex::new((mode, Vec::new()))))
        }

        fn set(&self, mode: Mode) {
            self.0.lock().0 = mode;
        }

        fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().1).into_owned()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut sink = self.0.lock();
            match sink.0 {
                Mode::Takes => {
                    sink.1.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Mode::TakesThenFails(some) => {
                    sink.1.extend_from_slice(&bytes[..some]);
                    sink.0 = Mode::Fails;
                    Ok(some)
                }
                Mode::Fails => Err(ErrorKind::StorageFull.into()),
                Mode::Blocks => Err(ErrorKind::WouldBlock.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns a writer and its notices: the number of dropped lines, or 0 for a failure.
    fn writer(sink: &Sink) -> (LineWriter, mpsc::Receiver<u64>) {
        let (tell, told) = mpsc::channel();
        let notify = move |notice: Notice<'_>| {
            let dropped = if let Notice::Resumed { dropped, .. } = notice { dropped } else { 0 };
            let _ = tell.send(dropped);
        };
        (LineWriter::start("test", 1000, sink.clone(), notify).expect("a thread"), told)
    }

    #[test]
    fn lines_are_written_in_order_with_their_ends() {
        let sink = Sink::new(Mode::Takes);
        let (writer, _told) = writer(&sink);
        for line in ["one\n", "two", "", "\n", "three\n"] {
            writer.line(line.as_bytes());
        }
        writer.flush(SOON);
        assert_eq!(sink.text(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_long_line_is_cut() {
        let sink = Sink::new(Mode::Takes);
        let writer = LineWriter::start("test", 1 << 20, sink.clone(), |_| {}).expect("a thread");
        writer.line(&vec![b'x'; LONGEST_LINE + 1]);
        writer.flush(SOON);
        assert_eq!(sink.text(), format!("{}[cut]\n", "x".repeat(LONGEST_LINE)));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_when_it_works_again() {
        let sink = Sink::new(Mode::Fails);
        let (writer, told) = writer(&sink);
        for _ in 0..3 {
            writer.line(b"lost");
            writer.flush(SOON);
        }
        assert_eq!((writer.dropped().get(), told.recv_timeout(SOON)), (3, Ok(0)), "one notice of the failure");
        sink.set(Mode::Takes);
        writer.line(b"kept");
        writer.flush(SOON);
        assert_eq!((told.recv_timeout(SOON), sink.text().as_str()), (Ok(3), "kept\n"));
    }

    #[test]
    fn a_half_line_does_not_run_into_the_next_one() {
        let sink = Sink::new(Mode::TakesThenFails(4));
        let (writer, _told) = writer(&sink);
        writer.line(b"half a line");
        writer.flush(SOON);
        // Not even the line end can be written now.
        writer.line(b"lost");
        writer.flush(SOON);
        sink.set(Mode::Takes);
        writer.line(b"whole");
        writer.flush(SOON);
        assert_eq!((sink.text().as_str(), writer.dropped().get()), ("half\nwhole\n", 2));
    }

    #[test]
    fn a_sink_that_takes_nothing_holds_up_nobody() {
        let sink = Sink::new(Mode::Blocks);
        let (writer, told) = writer(&sink);
        writer.line(b"first");
        // The thread has taken the line, and waits for the sink.
        while !writer.0.0.queue.lock().is_writing {
            thread::yield_now();
        }
        for _ in 0..1000 {
            writer.line(b"123456789");
        }
        assert_eq!(writer.dropped().get(), 900, "1,000 bytes wait");
        let began = Instant::now();
        writer.flush(Duration::from_millis(100));
        assert!((100..20_000).contains(&began.elapsed().as_millis()), "the flush took {:?}", began.elapsed());
        sink.set(Mode::Takes);
        assert_eq!(told.recv_timeout(SOON), Ok(900));
        writer.flush(SOON);
        assert_eq!(sink.text().lines().count(), 101);
    }
}
