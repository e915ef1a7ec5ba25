//! Runs futures in tasks of their own. Such a future ends when its caller drops it.

use std::future::{Future, pending, poll_fn};
use std::panic::resume_unwind;
use std::task::Poll;
use tokio::task::JoinSet;

/// Runs a future in a separate task, beginning with its second poll. Use it for a future that holds a resource for
/// which other futures wait, such as a connection or a position in a queue. The caller may stop polling for up to 30 s
/// when its client is stalled, and all other callers would then wait for that client.
///
/// The caller itself makes the first poll, so that futures get their positions in the order in which their callers
/// start them.
///
/// # Cancel safety
///
/// The task is aborted when this future is dropped. Otherwise an abandoned request would keep its place in the line,
/// and its memory would not count against any client.
pub(super) async fn in_own_task<T: Send + 'static>(doing: impl Future<Output = T> + Send + 'static) -> T {
    let mut doing = Box::pin(doing);
    let first = poll_fn(|cx| Poll::Ready(doing.as_mut().poll(cx)));
    // The first poll is outside tokio's budget. Otherwise tokio could refuse this poll because the caller's task has
    // been busy, and nothing would poll the future again.
    let done = match tokio::task::unconstrained(first).await {
        Poll::Ready(done) => return done,
        // A JoinSet aborts its tasks when it is dropped.
        Poll::Pending => JoinSet::from_iter([doing]).join_next().await,
    };
    match done {
        Some(Ok(done)) => done,
        Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime is shutting down, and so is the caller.
        _ => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use tokio::sync::{Mutex, mpsc, oneshot};

    async fn begin<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        let mut future = Some(future);
        poll_fn(|cx| Poll::Ready(future.take().expect("polled once").poll(cx))).await
    }

    #[tokio::test]
    async fn what_has_begun_goes_on_unpolled_and_in_order() {
        let lock = Arc::new(Mutex::new(()));
        let (done, mut doing) = mpsc::unbounded_channel();
        let held = lock.clone().lock_owned().await;
        let mut all: Vec<_> = (0..200)
            .map(|n| {
                let (lock, done) = (lock.clone(), done.clone());
                Box::pin(in_own_task(async move {
                    let _held = lock.lock().await;
                    tokio::task::yield_now().await;
                    let _ = done.send(n);
                    n
                }))
            })
            .collect();
        for one in &mut all {
            assert!(begin(one.as_mut()).await.is_pending());
        }
        drop(held);
        // The futures make progress although they are not polled.
        for n in 0..200 {
            assert_eq!(doing.recv().await, Some(n));
        }
        let mut answers = Vec::new();
        for one in all {
            answers.push(one.await);
        }
        assert_eq!(answers, Vec::from_iter(0..200), "each has its own");
    }

    #[tokio::test]
    async fn one_that_is_dropped_gives_its_place_back() {
        let lock = Arc::new(Mutex::new(()));
        let (told, hearing) = oneshot::channel::<()>();
        {
            let held = lock.clone();
            let mut doing = pin!(in_own_task(async move {
                let _held = held.lock_owned().await;
                pending::<()>().await;
                drop(told);
            }));
            assert!(begin(doing.as_mut()).await.is_pending());
            // The future's task has also begun.
            tokio::task::yield_now().await;
            assert!(lock.try_lock().is_err());
        }
        hearing.await.expect_err("it has ended");
        assert!(lock.try_lock().is_ok());
    }
}
