use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::*;
use crate::admin::http::{GRACE, MAX_AGE, serve};

#[derive(Default)]
struct Pages {
    is_over: AtomicBool,
    /// The last second that was told.
    last: AtomicU64,
    watched: AtomicU64,
    /// More in each event.
    filler: String,
}

impl AdminPages for Pages {
    fn metrics(&self) -> String {
        String::new()
    }
    fn status_json(&self) -> String {
        String::new()
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn watching(&self) -> Watching {
        match self.is_over.load(Relaxed) {
            true => Watching::Over,
            false => Watching::Welcome,
        }
    }
    fn second(&self, number: u64, is_watched: bool) -> Option<String> {
        self.last.store(number, Relaxed);
        self.watched.fetch_add(is_watched.into(), Relaxed);
        Some(format!("{{\"second\":{number}}}{}", self.filler))
    }
}

fn event(number: u64) -> Bytes {
    format!("event: second\ndata: {{\"second\":{number}}}\n\n").into()
}

#[tokio::test(start_paused = true)]
async fn seconds_are_counted_from_the_start_and_those_missed_are_left_out() {
    let mut seconds = Seconds::new();
    assert_eq!((seconds.next().await, seconds.next().await), (1, 2));
    tokio::time::advance(Duration::from_millis(3_700)).await;
    assert_eq!((seconds.next().await, seconds.next().await), (5, 6));
}

#[tokio::test(start_paused = true)]
async fn a_viewer_gets_each_second_until_the_drain_and_one_that_does_not_read_misses_some() {
    let (pages, viewers) = (Arc::new(Pages::default()), Arc::new(Viewers::default()));
    let task = tokio::spawn(each_second(pages.clone(), viewers.clone()));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(
        (pages.last.load(Relaxed), pages.watched.load(Relaxed)),
        (2, 0)
    );
    let (mut one, mut silent) = (
        viewers.enter().expect("room"),
        viewers.enter().expect("room"),
    );
    assert_eq!(one.recv().await, Some(Bytes::from_static(OPENING)));
    for number in 3..9 {
        assert_eq!(one.recv().await, Some(event(number)));
    }
    assert_eq!(silent.len(), 2, "what waits for it does not grow");
    pages.is_over.store(true, Relaxed);
    assert_eq!((one.recv().await, one.recv().await), (Some(event(9)), None));
    assert_eq!(viewers.enter().expect_err("it drains"), "draining\n");
    let kept = [
        silent.recv().await,
        silent.recv().await,
        silent.recv().await,
    ];
    assert_eq!(
        kept,
        [Some(Bytes::from_static(OPENING)), Some(event(3)), None]
    );
    task.abort();
}

#[test]
fn one_more_than_may_watch_is_let_in_when_another_has_gone() {
    let viewers = Viewers::default();
    let mut inside: Vec<_> = (0..MAX_VIEWERS)
        .map(|_| viewers.enter().expect("room"))
        .collect();
    let why = viewers.enter().expect_err("full");
    assert!(why.starts_with(&MAX_VIEWERS.to_string()), "{why}");
    inside.pop();
    assert!(viewers.enter().is_ok());
}

#[test]
fn whoever_reads_may_stay() {
    let reading = Reading::default();
    let (sender, receiver) = channel(2);
    let mut events = Events {
        receiver,
        reading: reading.clone(),
    };
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut events).poll_frame(&mut cx).is_pending());
    assert!(!reading.goes_on());
    sender.try_send(event(1)).expect("room");
    assert!(Pin::new(&mut events).poll_frame(&mut cx).is_ready());
    assert_eq!((reading.goes_on(), reading.goes_on()), (true, false));
}

/// Paused time: minutes pass at once.
#[tokio::test(start_paused = true)]
async fn a_viewer_outlives_the_age_of_a_connection_while_it_reads_and_no_longer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let pages = Arc::new(Pages {
        filler: "x".repeat(4096),
        ..Pages::default()
    });
    let viewers = Arc::new(Viewers::default());
    let seconds = tokio::spawn(each_second(pages.clone(), viewers.clone()));
    let begun = tokio::time::Instant::now();
    let watch = async || {
        let (mut caller, stream) = tokio::io::duplex(1_024);
        let task = tokio::spawn(serve(stream, pages.clone(), viewers.clone()));
        let request = b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n";
        caller.write_all(request).await.expect("open");
        (caller, task)
    };
    let (mut reader, reading) = watch().await;
    let (_silent, stuck) = watch().await;
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.expect("whole");
        String::from_utf8(all).expect("text")
    });
    let stuck = tokio::time::timeout(2 * MAX_AGE, stuck).await;
    stuck.expect("it is cut off").expect("no panic");
    let age = begun.elapsed();
    assert!(age >= MAX_AGE && age <= MAX_AGE + 3 * GRACE, "{age:?}");
    tokio::time::sleep(2 * MAX_AGE).await;
    assert!(!reading.is_finished());
    pages.is_over.store(true, Relaxed);
    let all = tokio::time::timeout(GRACE, read).await;
    let all = all.expect("it ends with the drain").expect("no panic");
    assert!(all.starts_with("HTTP/1.1 200 OK\r\n"));
    let last = begun.elapsed().as_secs();
    assert!(
        all.contains(&format!("{{\"second\":{last}}}")),
        "until the end"
    );
    assert!(all.ends_with("0\r\n\r\n"), "it ends as an answer does");
    seconds.abort();
}
