//! Who waits for a stream of a connection that takes no more.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::Bytes;
use dl_http2::{Config, Role};

use super::super::Handle;
use super::*;

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client's link whose peer takes so many streams.
fn link(streams: u8) -> Rc<Link<Handle>> {
    let config = Config {
        max_frame: 16_384,
        stream_window: 65_535,
        connection_window: 65_535,
        opens_on_receipt: true,
        max_streams: 0,
        max_list: 65_536,
        max_fields: 100,
        max_memory: usize::MAX,
        credit: None,
        max_faults: None,
    };
    let link = Link::new(Connection::new(Role::Client, config));
    receive(&link, settings(streams));
    link
}

/// SETTINGS_MAX_CONCURRENT_STREAMS.
fn settings(streams: u8) -> Vec<u8> {
    vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, streams]
}

fn receive(link: &Link<Handle>, bytes: Vec<u8>) {
    let mut bytes = Bytes::from(bytes);
    while let Some(event) = link.drive(|it| it.receive(&mut bytes)).unwrap() {
        link.deliver(event);
    }
}

fn open(link: &Link<Handle>, task: &Arc<Task>) -> Option<Result<Key, Ended>> {
    let waker = Waker::from(task.clone());
    match link.poll_open(&Context::from_waker(&waker)) {
        Poll::Ready(room) => Some(room.and_then(|()| link.open(&Headers::new()))),
        Poll::Pending => None,
    }
}

#[test]
fn a_stream_that_ends_wakes_who_waits_though_another_has_gone() {
    let (link, tasks) = (link(1), [(); 3].map(|()| Arc::<Task>::default()));
    let key = open(&link, &tasks[0]).unwrap().unwrap();
    let first = Handle::new(&link, key);
    // The second asks twice, and goes without a word.
    for task in [&tasks[1], &tasks[1], &tasks[2]] {
        assert!(open(&link, task).is_none());
    }
    drop(first);
    assert_eq!([tasks[1].woken(), tasks[2].woken()], [1, 1]);
    assert!(open(&link, &tasks[2]).is_some_and(|it| it.is_ok()));
}

#[test]
fn settings_that_take_more_wake_who_waits() {
    let (link, task) = (link(0), Arc::<Task>::default());
    assert!(open(&link, &task).is_none());
    receive(&link, settings(1));
    assert_eq!(task.woken(), 1);
    assert!(open(&link, &task).is_some_and(|it| it.is_ok()));
}

#[test]
fn a_goaway_wakes_who_waits_and_refuses_them() {
    let (link, task) = (link(0), Arc::<Task>::default());
    assert!(open(&link, &task).is_none());
    receive(
        &link,
        vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    assert_eq!(task.woken(), 1);
    assert_eq!(open(&link, &task), Some(Err(Ended::Refused)));
}

#[test]
fn a_peer_that_reads_nothing_is_opened_no_stream_until_it_has_read_half() {
    let (link, task) = (link(2), Arc::<Task>::default());
    let wait = |bytes: usize| link.drive(|it| it.out().put(|out| out.resize(out.len() + bytes, 0)));
    let read = |bytes: usize| {
        link.drive(|it| it.out().advance(bytes));
        link.wake_opening();
    };
    wait(MOST_HEADS);
    assert!(open(&link, &task).is_none());
    read(MOST_HEADS / 4);
    assert_eq!(task.woken(), 0);
    read(MOST_HEADS / 2);
    assert_eq!(task.woken(), 1);
    assert!(open(&link, &task).is_some_and(|it| it.is_ok()));
}

#[test]
fn a_thread_keeps_the_buffer_of_usual_writes_and_no_large_one() {
    for (bytes, is_kept) in [(64 * 1024, true), (1 << 20, false)] {
        SPARE.take();
        let link = link(1);
        link.drive(|it| {
            let out = it.out();
            out.put(|buffer| buffer.extend(std::iter::repeat_n(0, bytes)));
            out.advance(out.len());
        });
        link.rest();
        assert_eq!(SPARE.take().capacity() > 0, is_kept, "{bytes}");
    }
}
