//! Requests that wait at the same time share one statement.
//!
//! Nobody waits for company: a worker that is free takes whatever is there, be it one request. While it is at work others
//! gather. A request that nobody took in time is taken back by whoever asked, and is not sent any more.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

/// How many requests may wait.
const QUEUE_MAX: usize = 65_536;

/// A request on its way.
pub(super) struct Asked<Q, A> {
    pub(super) question: Q,
    reply: oneshot::Sender<A>,
    /// By a worker, or back by whoever asked.
    taken: Arc<AtomicBool>,
}

impl<Q, A> Asked<Q, A> {
    /// Answers it. Whoever asked may have gone away.
    pub(super) fn answer(self, answer: A) {
        let _ = self.reply.send(answer);
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A queue, and those who work it off.
pub(super) struct Batcher<Q, A> {
    queue: mpsc::Sender<Asked<Q, A>>,
    within: Duration,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Too many wait: it was not sent.
    Full,
    /// Nobody got to it in time: it was not sent, and will not be.
    Late,
    /// Whoever worked on it is gone: it may have been sent.
    Broken,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many requests are waiting already; try again",
            Self::Late => "the database is behind, and nobody got to the request in time; try again",
            Self::Broken => "the request broke off; the log says where",
        })
    }
}

impl<Q: Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// Starts `workers`, each of which takes up to `most` requests at once and answers each. They end with the batcher.
    pub(super) fn start(
        workers: usize,
        most: usize,
        within: Duration,
        work: impl Fn(Vec<Asked<Q, A>>) -> Work + Send + Sync + 'static,
    ) -> Self {
        let (queue, requests) = mpsc::channel::<Asked<Q, A>>(QUEUE_MAX);
        let (requests, work) = (Arc::new(Mutex::new(requests)), Arc::new(work));
        for _ in 0..workers {
            let (requests, work) = (Arc::clone(&requests), Arc::clone(&work));
            tokio::spawn(async move {
                loop {
                    let mut batch = Vec::new();
                    if requests.lock().await.recv_many(&mut batch, most).await == 0 {
                        return;
                    }
                    batch.retain(|asked| !asked.taken.swap(true, Ordering::AcqRel));
                    if !batch.is_empty() {
                        // What panics breaks off its batch, not the worker.
                        let _ = tokio::spawn(work(batch)).await;
                    }
                }
            });
        }
        Self { queue, within }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, question: Q) -> Result<A, Unanswered> {
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let asked = Asked { question, reply, taken: Arc::clone(&taken) };
        self.queue.try_send(asked).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unanswered::Full,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Broken,
        })?;
        match timeout(self.within, &mut answer).await {
            Ok(answered) => answered.map_err(|_| Unanswered::Broken),
            Err(_) if !taken.swap(true, Ordering::AcqRel) => Err(Unanswered::Late),
            // It is under way, and its worker's own time is bounded.
            Err(_) => answer.await.map_err(|_| Unanswered::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_at_once_goes_at_once_and_everybody_is_answered() {
        let batcher = Batcher::<u64, (u64, usize)>::start(1, 100, Duration::from_secs(5), |batch| {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let size = batch.len();
                for asked in batch {
                    let answer = (asked.question * 2, size);
                    asked.answer(answer);
                }
            })
        });
        let batcher = Arc::new(batcher);
        let ask = |n| {
            let batcher = Arc::clone(&batcher);
            tokio::spawn(async move { batcher.ask(n).await })
        };
        let asked: Vec<_> = (0..50).map(ask).collect();
        let mut largest = 0;
        for (n, answer) in asked.into_iter().enumerate() {
            let (twice, size) = answer.await.expect("no panic").expect("answered");
            assert_eq!(twice, n as u64 * 2);
            largest = largest.max(size);
        }
        assert!(largest >= 40, "{largest}");
    }

    #[tokio::test]
    async fn what_nobody_gets_to_is_not_sent_and_what_breaks_says_so() {
        let batcher = Batcher::<bool, ()>::start(1, 1, Duration::from_millis(50), |batch| {
            Box::pin(async move {
                for asked in batch {
                    assert!(asked.question, "it breaks");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    asked.answer(());
                }
            })
        });
        let (slow, late) = tokio::join!(batcher.ask(true), batcher.ask(true));
        assert_eq!((slow, late), (Ok(()), Err(Unanswered::Late)));
        assert_eq!(batcher.ask(false).await, Err(Unanswered::Broken));
        assert_eq!(batcher.ask(true).await, Ok(()));
    }
}
