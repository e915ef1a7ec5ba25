//! Futures that go on by themselves.

use std::future::{Future, pending, poll_fn};
use std::panic::resume_unwind;
use std::task::Poll;
use tokio::task::JoinSet;

/// Does it, from the first poll on whether or not somebody polls this, for as long as somebody keeps it. For what holds
/// something that others wait for, a connection or a place in a line: whoever has asked for it may be busy with a client
/// that takes nothing, and so would all the others be.
///
/// Its first step is the caller's, so that what is begun in an order stands in that order.
///
/// # Cancel safety
///
/// It ends with this: what nobody wants any more would stand in the line, and be in nobody's account.
pub(super) async fn detached<T: Send + 'static>(doing: impl Future<Output = T> + Send + 'static) -> T {
    let mut doing = Box::pin(doing);
    let first = poll_fn(|cx| Poll::Ready(doing.as_mut().poll(cx)));
    // However busy the caller's task was: what is refused for that would have to be asked for again, by nobody.
    let done = match tokio::task::unconstrained(first).await {
        Poll::Ready(done) => return done,
        // A set, which ends what is in it when it is dropped.
        Poll::Pending => JoinSet::from_iter([doing]).join_next().await,
    };
    match done {
        Some(Ok(done)) => done,
        Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime ends, and whoever waits with it.
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
                Box::pin(detached(async move {
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
        // Nobody polls them.
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
            let mut doing = pin!(detached(async move {
                let _held = held.lock_owned().await;
                pending::<()>().await;
                drop(told);
            }));
            assert!(begin(doing.as_mut()).await.is_pending());
            // Its task has begun, too.
            tokio::task::yield_now().await;
            assert!(lock.try_lock().is_err());
        }
        hearing.await.expect_err("it has ended");
        assert!(lock.try_lock().is_ok());
    }
}
