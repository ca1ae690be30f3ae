use super::*;
use crate::code::Code;
use crate::grpc::status::Status;
use crate::worker::codec::Answer;
use crate::worker::reply::Reply;

fn call(queue: &Queue, id: &'static str, timeout: Duration) -> (Call, Waiting) {
    let (slot, waiting) = queue.slot(Instant::now() + timeout, Vec::new(), 1000);
    let request_id = HeaderValue::from_static(id);
    let call = Call {
        payload: Payload::None,
        meta: Meta::default(),
        method: "/a/B",
        request_id,
        fingerprint: 0,
        slot,
        queued: Instant::now(),
    };
    (call, waiting)
}

fn push(queue: &Queue, id: &'static str) -> Waiting {
    let (call, waiting) = call(queue, id, Duration::from_secs(60));
    queue.push(call).unwrap();
    waiting
}

fn ids(batch: &[Call]) -> Vec<&str> {
    batch
        .iter()
        .map(|call| call.request_id.to_str().unwrap())
        .collect()
}

fn wait(mut waiting: Waiting) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(waiting.reply())
}

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_batch_has_at_most_max_calls_oldest_first() {
    let queue = Queue::new(8);
    let _waiting = ["1", "2", "3"].map(|id| push(&queue, id));
    assert_eq!(ids(&queue.next_batch(2, NOW).unwrap()), ["1", "2"]);
    assert_eq!(ids(&queue.next_batch(2, NOW).unwrap()), ["3"]);
    assert!(queue.next_batch(2, NOW).is_none());
}

#[test]
fn a_waiting_thread_gets_a_lone_call_at_once() {
    let queue = Queue::new(8);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| queue.next_batch(64, LONG).map(|batch| batch.len()));
        let _waiting = push(&queue, "1");
        assert_eq!(taker.join().unwrap(), Some(1));
    });
}

#[test]
fn a_full_queue_sheds() {
    let queue = Queue::new(1);
    let _first = push(&queue, "1");
    let (second, _waiting) = call(&queue, "2", LONG);
    let error = queue.push(second).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Shed);
    assert_eq!(
        error.message,
        "1 requests wait for the model (max_queue); try again later"
    );
}

#[test]
fn calls_whose_caller_has_gone_make_room_in_a_full_queue() {
    let queue = Queue::new(1);
    drop(push(&queue, "1"));
    let _second = push(&queue, "2");
    assert_eq!(ids(&queue.next_batch(2, NOW).unwrap()), ["2"]);
    assert_eq!(queue.abandoned.load(Ordering::Relaxed), 0);
}

#[test]
fn a_call_whose_caller_has_gone_is_not_handed_out() {
    let queue = Queue::new(8);
    drop(push(&queue, "1"));
    let _second = push(&queue, "2");
    assert_eq!(ids(&queue.next_batch(1, NOW).unwrap()), ["2"]);
    assert_eq!(queue.abandoned.load(Ordering::Relaxed), 0);
}

#[test]
fn an_expired_call_is_answered_and_not_handed_out() {
    let queue = Queue::new(8);
    let (expired, waiting) = call(&queue, "1", Duration::ZERO);
    queue.push(expired).unwrap();
    assert!(queue.next_batch(8, NOW).is_none());
    assert_eq!(wait(waiting).unwrap_err().code, Code::DeadlineExceeded);
}

#[test]
fn a_dropped_call_is_answered_internal() {
    let queue = Queue::new(8);
    let waiting = push(&queue, "1");
    drop(queue.next_batch(8, NOW));
    assert_eq!(wait(waiting).unwrap_err(), Status::internal());
}

#[test]
fn an_answer_arrives_once_and_is_counted_right_when_nobody_waits() {
    let queue = Queue::new(8);
    let waiting = push(&queue, "1");
    let abandoned = push(&queue, "2");
    let mut batch = queue.next_batch(8, NOW).unwrap();
    drop(abandoned);
    assert_eq!(queue.abandoned.load(Ordering::Relaxed), 1);
    for call in batch.drain(..) {
        call.slot.answer(&Answer::StrData("x"), &[]);
    }
    assert_eq!(queue.abandoned.load(Ordering::Relaxed), 0);
    assert_eq!(
        wait(waiting).unwrap(),
        b"\x00\x00\x00\x00\x05\x12\x00\x2a\x01x"[..]
    );
}

#[test]
fn an_answer_that_came_before_its_caller_went_is_not_counted() {
    let queue = Queue::new(8);
    let waiting = push(&queue, "1");
    for call in queue.next_batch(8, NOW).unwrap() {
        call.slot.answer(&Answer::StrData("x"), &[]);
    }
    drop(waiting);
    assert_eq!(queue.abandoned.load(Ordering::Relaxed), 0);
}

#[test]
fn an_answer_above_the_limit_becomes_resource_exhausted() {
    let queue = Queue::new(8);
    let waiting = push(&queue, "1");
    for call in queue.next_batch(8, NOW).unwrap() {
        call.slot.answer(&Answer::BinData(&[0; 2000]), &[]);
    }
    assert_eq!(wait(waiting).unwrap_err().code, Code::ResourceExhausted);
}

#[test]
fn a_closed_queue_gives_what_it_holds_and_then_none_at_once() {
    let queue = Queue::new(8);
    let _waiting = push(&queue, "1");
    queue.close();
    let (late, _late_waiting) = call(&queue, "2", LONG);
    assert_eq!(queue.push(late).unwrap_err().kind, ErrorKind::Draining);
    assert_eq!(ids(&queue.next_batch(8, LONG).unwrap()), ["1"]);
    assert!(queue.next_batch(8, LONG).is_none());
}

#[test]
fn closing_wakes_a_waiting_thread() {
    let queue = Queue::new(8);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| queue.next_batch(64, LONG).is_none());
        queue.close();
        assert!(taker.join().unwrap());
    });
}

#[test]
fn an_aborted_queue_answers_unavailable() {
    let queue = Queue::new(8);
    let waiting = push(&queue, "1");
    queue.abort();
    assert_eq!(wait(waiting).unwrap_err().code, Code::Unavailable);
}
