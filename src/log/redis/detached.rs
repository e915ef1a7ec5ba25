//! Futures that go on by themselves.

use std::future::{Future, pending, poll_fn};
use std::panic::resume_unwind;
use std::task::Poll;

/// Does it, from the first poll on whether or not somebody polls this. For what holds something that others wait for, a
/// connection or a place in a line: whoever has asked for it may be busy with a client that takes nothing, and so would
/// all the others be.
///
/// Its first step is the caller's, so that what is begun in an order stands in that order.
///
/// # Cancel safety
///
/// It goes on to its end where it has begun.
pub(super) async fn detached<T: Send + 'static>(doing: impl Future<Output = T> + Send + 'static) -> T {
    let mut doing = Box::pin(doing);
    let first = poll_fn(|cx| Poll::Ready(doing.as_mut().poll(cx)));
    // However busy the caller's task was: what is refused for that would have to be asked for again, by nobody.
    let done = match tokio::task::unconstrained(first).await {
        Poll::Ready(done) => return done,
        Poll::Pending => tokio::spawn(doing).await,
    };
    match done {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime ends, and whoever waits with it.
        Err(_) => pending().await,
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
    async fn one_that_is_dropped_goes_on() {
        let (told, hearing) = oneshot::channel();
        let (go, going) = oneshot::channel::<()>();
        {
            let mut doing = pin!(detached(async move {
                let _ = going.await;
                let _ = told.send(());
            }));
            assert!(begin(doing.as_mut()).await.is_pending());
        }
        go.send(()).expect("it waits");
        hearing.await.expect("it has gone on");
    }
}
