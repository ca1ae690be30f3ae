use super::*;
use crate::code::Code;
use crate::grpc::status::Status;
use crate::testing::request_id;
use crate::worker::codec::Answer;
use crate::worker::reply::Reply;

const BATCHING: Batching = Batching {
    joins: true,
    max_rows: 64,
    max_delay: None,
};

fn queue(capacity: usize) -> Arc<Queue> {
    Arc::new(Queue::new(capacity, BATCHING))
}

fn call(queue: &Arc<Queue>, id: &'static str, timeout: Duration) -> (Call, Waiting) {
    let (slot, waiting) = queue.slot(Instant::now() + timeout, Vec::new(), 1000);
    let request_id = request_id(id);
    let call = Call {
        payload: Payload::None,
        meta: Meta::default(),
        method: "/a/B",
        request_id,
        priority: Priority::Normal,
        group: 0,
        fingerprint: 0,
        slot,
        queued: Instant::now(),
    };
    (call, waiting)
}

fn push(queue: &Arc<Queue>, id: &'static str) -> Waiting {
    let (call, waiting) = call(queue, id, Duration::from_secs(60));
    queue.push(call).unwrap();
    waiting
}

fn ids(batch: &[Call]) -> Vec<&str> {
    batch.iter().map(|call| call.request_id.as_str()).collect()
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
    let queue = queue(8);
    let _waiting = ["1", "2", "3"].map(|id| push(&queue, id));
    assert_eq!(ids(&queue.next_batch(2, NOW).unwrap()), ["1", "2"]);
    assert_eq!(ids(&queue.next_batch(2, NOW).unwrap()), ["3"]);
    assert!(queue.next_batch(2, NOW).is_none());
}

#[test]
fn a_waiting_thread_gets_a_lone_call_at_once() {
    let queue = queue(8);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| queue.next_batch(64, LONG).map(|batch| batch.len()));
        let _waiting = push(&queue, "1");
        assert_eq!(taker.join().unwrap(), Some(1));
    });
}

#[test]
fn a_full_queue_sheds() {
    let queue = queue(1);
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
    let queue = queue(1);
    drop(push(&queue, "1"));
    let _second = push(&queue, "2");
    assert_eq!(ids(&queue.next_batch(2, NOW).unwrap()), ["2"]);
}

#[test]
fn a_call_whose_caller_has_gone_is_not_handed_out() {
    let queue = queue(8);
    drop(push(&queue, "1"));
    let _second = push(&queue, "2");
    assert_eq!(ids(&queue.next_batch(1, NOW).unwrap()), ["2"]);
}

#[test]
fn an_expired_call_is_answered_and_not_handed_out() {
    let queue = queue(8);
    let (expired, waiting) = call(&queue, "1", Duration::ZERO);
    queue.push(expired).unwrap();
    assert!(queue.next_batch(8, NOW).is_none());
    assert_eq!(wait(waiting).unwrap_err().code, Code::DeadlineExceeded);
}

#[test]
fn a_dropped_call_is_answered_internal() {
    let queue = queue(8);
    let waiting = push(&queue, "1");
    drop(queue.next_batch(8, NOW));
    assert_eq!(wait(waiting).unwrap_err(), Status::internal());
}

#[test]
fn a_call_that_is_dropped_because_it_is_late_is_told_so() {
    let queue = queue(8);
    let (late, waiting) = call(&queue, "1", Duration::from_millis(30));
    queue.push(late).unwrap();
    let batch = queue.next_batch(8, NOW).unwrap();
    let deadline = batch[0].slot.deadline();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    drop(batch);
    assert_eq!(wait(waiting).unwrap_err().code, Code::DeadlineExceeded);
}

#[test]
fn an_answer_arrives_once_and_is_counted_right_when_nobody_waits() {
    let queue = queue(8);
    let waiting = push(&queue, "1");
    let abandoned = push(&queue, "2");
    let mut batch = queue.next_batch(8, NOW).unwrap();
    drop(abandoned);
    for call in batch.drain(..) {
        call.slot.answer(&Answer::StrData("x"), &[]);
    }
    assert_eq!(
        wait(waiting).unwrap(),
        b"\x00\x00\x00\x00\x05\x12\x00\x2a\x01x"[..]
    );
}

#[test]
fn an_answer_that_came_before_its_caller_went_is_not_counted() {
    let queue = queue(8);
    let waiting = push(&queue, "1");
    for call in queue.next_batch(8, NOW).unwrap() {
        call.slot.answer(&Answer::StrData("x"), &[]);
    }
    drop(waiting);
}

#[test]
fn an_answer_above_the_limit_becomes_resource_exhausted() {
    let queue = queue(8);
    let waiting = push(&queue, "1");
    for call in queue.next_batch(8, NOW).unwrap() {
        call.slot.answer(&Answer::BinData(&[0; 2000]), &[]);
    }
    assert_eq!(wait(waiting).unwrap_err().code, Code::ResourceExhausted);
}

#[test]
fn a_closed_queue_gives_what_it_holds_and_then_none_at_once() {
    let queue = queue(8);
    let _waiting = push(&queue, "1");
    queue.close();
    let (late, _late_waiting) = call(&queue, "2", LONG);
    assert_eq!(queue.push(late).unwrap_err().kind, ErrorKind::Draining);
    assert_eq!(ids(&queue.next_batch(8, LONG).unwrap()), ["1"]);
    assert!(queue.next_batch(8, LONG).is_none());
}

#[test]
fn closing_wakes_a_waiting_thread() {
    let queue = queue(8);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| queue.next_batch(64, LONG).is_none());
        queue.close();
        assert!(taker.join().unwrap());
    });
}

#[test]
fn an_aborted_queue_answers_unavailable() {
    let queue = queue(8);
    let waiting = push(&queue, "1");
    queue.abort();
    assert_eq!(wait(waiting).unwrap_err().code, Code::Unavailable);
}

fn push_of(queue: &Arc<Queue>, id: &'static str, priority: Priority) -> Waiting {
    let (mut call, waiting) = call(queue, id, LONG);
    call.priority = priority;
    queue.push(call).unwrap();
    waiting
}

#[test]
fn calls_of_high_priority_go_first_and_those_of_low_last() {
    let queue = queue(8);
    let ids_of = [
        ("1", Priority::Low),
        ("2", Priority::Normal),
        ("3", Priority::High),
        ("4", Priority::High),
    ];
    let _waiting = ids_of.map(|(id, priority)| push_of(&queue, id, priority));
    assert_eq!(ids(&queue.next_batch(3, NOW).unwrap()), ["3", "4", "2"]);
    assert_eq!(ids(&queue.next_batch(3, NOW).unwrap()), ["1"]);
}

#[test]
fn in_a_full_queue_the_newest_call_of_a_lower_priority_makes_room() {
    let queue = queue(2);
    let _first = push_of(&queue, "1", Priority::Low);
    let second = push_of(&queue, "2", Priority::Low);
    let _third = push_of(&queue, "3", Priority::Normal);
    assert_eq!(wait(second).unwrap_err().kind, Some(ErrorKind::Shed));
    let (fourth, _waiting) = call(&queue, "4", LONG);
    queue.push(fourth).unwrap();
    let (fifth, _waiting) = call(&queue, "5", LONG);
    assert_eq!(queue.push(fifth).unwrap_err().kind, ErrorKind::Shed);
    assert_eq!(ids(&queue.next_batch(8, NOW).unwrap()), ["3", "4"]);
}

#[test]
fn a_call_whose_caller_goes_leaves_the_queue_at_once() {
    let queue = queue(8);
    let first = push(&queue, "1");
    let _second = push(&queue, "2");
    drop(first);
    assert_eq!((queue.len(), queue.left()), (1, 1));
}

#[test]
fn a_batch_is_held_for_the_time_that_is_set_and_goes_when_it_is_full() {
    let held = Batching {
        max_rows: 2,
        max_delay: Some(Duration::from_millis(200)),
        ..BATCHING
    };
    let queue = Arc::new(Queue::new(8, held));
    let began = Instant::now();
    let _first = push(&queue, "1");
    assert_eq!(queue.next_batch(8, LONG).unwrap().len(), 1);
    assert!(began.elapsed() >= Duration::from_millis(200));
    let _more = ["2", "3"].map(|id| push(&queue, id));
    let began = Instant::now();
    assert_eq!(queue.next_batch(8, LONG).unwrap().len(), 2);
    assert!(began.elapsed() < Duration::from_millis(200));
}

#[test]
fn a_closed_queue_holds_nothing_back() {
    let held = Batching {
        max_delay: Some(LONG),
        ..BATCHING
    };
    let queue = Arc::new(Queue::new(8, held));
    let _first = push(&queue, "1");
    queue.close();
    assert_eq!(queue.next_batch(8, LONG).unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_has_the_stages_that_were_told_for_it() {
    use crate::worker::codec::Answer;
    use crate::worker::reply::{Content, Slots, Stages};
    let queue = queue(8);
    let mut waiting = ["1", "2", "3", "4", "5"].map(|id| push(&queue, id));
    let calls = queue.next_batch(8, NOW).unwrap().into_iter();
    let slots = calls.map(|mut call| {
        call.slot.take_up(Instant::now(), Duration::ZERO);
        call.slot
    });
    let outbox = Arc::new(crate::worker::outbox::Outbox::default());
    let slots = Slots::new(slots.collect(), outbox.clone());
    let delivering = tokio::spawn(async move { outbox.deliver().await });
    let stages = |model| Stages {
        model: Duration::from_millis(model),
        ..Stages::default()
    };
    let content = || Content::Seldon(Answer::StrData("x"));
    // Told for the next one, which is kept; then for the two that are kept after it.
    slots.spent(stages(1));
    slots.keep(0, content(), &[]).unwrap();
    for index in [1, 2] {
        slots.keep(index, content(), &[]).unwrap();
    }
    slots.spent(stages(2));
    slots.spent(stages(3));
    slots.answer(3, content(), &[]).unwrap();
    slots.answer(4, content(), &[]).unwrap();
    drop(slots);
    let mut told = Vec::new();
    for call in &mut waiting {
        let reply = tokio::time::timeout(LONG, call.reply()).await;
        assert!(reply.expect("in time").is_ok());
        told.push(call.times().stages.model.as_millis());
    }
    assert_eq!(told, [1, 2, 2, 3, 0]);
    delivering.abort();
}

#[test]
fn what_python_has_is_seen_to_have_gone() {
    let queue = queue(8);
    let [first, _second] = ["1", "2"].map(|id| push(&queue, id));
    let (late, _waiting) = call(&queue, "3", Duration::from_millis(30));
    queue.push(late).unwrap();
    let slots = queue
        .next_batch(8, NOW)
        .unwrap()
        .into_iter()
        .map(|call| call.slot);
    let slots = crate::worker::reply::Slots::new(slots.collect(), Arc::default());
    let gone = || [0, 1, 2, 3].map(|index| slots.is_gone(index));
    assert_eq!(gone(), [false, false, false, true]);
    drop(first);
    let limit = Instant::now() + LONG;
    while gone() != [true, false, true, true] && Instant::now() < limit {
        std::thread::yield_now();
    }
    assert_eq!(gone(), [true, false, true, true]);
}
