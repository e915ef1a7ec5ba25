//! Spawns the tasks of sessions.

/// Spawns a task that is parked most of the time.
///
/// The future is boxed, because tokio aligns its own part of a task to two cache lines. For memory with this alignment,
/// the allocator adds up to the same number of bytes again.
pub fn spawn_parked(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(Box::pin(task));
}
