//! Futures that run side by side within a limit of number and of time.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// The outputs in the order of the futures, of which `width` run at a time; none where `limit` was over before.
pub async fn together<F: Future>(
    futures: impl IntoIterator<Item = F>,
    width: usize,
    limit: Duration,
) -> Vec<Option<F::Output>> {
    let mut waiting: Vec<_> = futures.into_iter().enumerate().collect();
    let mut outputs: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    // Taken from the end: the first ones first.
    waiting.reverse();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut late = pin!(sleep(limit));
    poll_fn(|cx| {
        loop {
            let free = width.saturating_sub(running.len());
            let started = waiting.split_off(waiting.len().saturating_sub(free));
            running.extend(started.into_iter().map(|(at, it)| (at, Box::pin(it))));
            let before = running.len();
            running.retain_mut(|(at, future)| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    outputs[*at] = Some(output);
                    false
                }
                Poll::Pending => true,
            });
            if running.is_empty() && waiting.is_empty() {
                return Poll::Ready(());
            }
            if running.len() == before || waiting.is_empty() {
                return late.as_mut().poll(cx);
            }
        }
    })
    .await;
    outputs
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_run_as_may_and_the_late_ones_have_no_output() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let job = |seconds| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                sleep(Duration::from_secs(seconds)).await;
                running.set(running.get() - 1);
                seconds
            }
        };
        let started = Instant::now();
        let outputs = together([1, 3, 1, 2, 0, 90].map(job), 2, Duration::from_secs(10)).await;
        let expected = [Some(1), Some(3), Some(1), Some(2), Some(0), None];
        assert_eq!(outputs, expected);
        assert_eq!(most.get(), 2);
        assert_eq!(started.elapsed().as_secs(), 10);
        let no_jobs = std::iter::empty::<std::future::Ready<()>>();
        let none = together(no_jobs, 2, Duration::from_secs(1)).await;
        assert!(none.is_empty());
    }
}
