//! Processes are played by hands on one file: dropping one is the death of its process. That Linux lets go of a dying
//! process's lock in time is tested where there are processes: tests/e2e/test_poison.py.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::code::Code;
use crate::grpc::metadata::Priority;
use crate::grpc::status::Status;
use crate::testing::request_id;
use crate::worker::codec::{Meta, Payload};
use crate::worker::reply::{Reply, Waiting};
use crate::worker::tuner::Batching;

const NOW: Duration = Duration::ZERO;
const LONG: u64 = 600_000;
const BATCH: usize = 4;
const BATCHING: Batching = Batching {
    joins: true,
    max_rows: 5000,
    max_delay: None,
};

/// A file for one test, gone with it.
struct Board(PathBuf);

/// A process: what its front has queued, and its hand.
struct Process {
    queue: Arc<Queue>,
    hand: Hand,
}

/// A call that its caller waits for.
struct Asked {
    fingerprint: u64,
    waiting: Waiting,
}

impl Board {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dl-inference-hands-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn open(&self, poison_ms: u64) -> Process {
        let path = self.0.to_str().unwrap().to_owned();
        let config = HandsConfig { path, poison_ms };
        Process {
            queue: Arc::new(Queue::new(5000, BATCHING)),
            hand: Hand::open(&config, BATCH).unwrap(),
        }
    }

    fn start(&self) -> Process {
        self.open(LONG)
    }

    fn bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Process {
    fn push(&self, fingerprint: u64) -> Asked {
        self.push_for(fingerprint, Duration::from_secs(60))
    }

    fn push_for(&self, fingerprint: u64, limit: Duration) -> Asked {
        let deadline = Instant::now() + limit;
        let (slot, waiting) = self.queue.slot(deadline, Vec::new(), 1000);
        let call = Call {
            payload: Payload::None,
            meta: Meta::default(),
            method: "/a/B",
            request_id: request_id("r"),
            priority: Priority::Normal,
            group: 0,
            fingerprint,
            slot,
            queued: Instant::now(),
        };
        self.queue.push(call).unwrap();
        Asked {
            fingerprint,
            waiting,
        }
    }

    fn next(&self) -> Vec<Call> {
        let batch = self.hand.next_batch(&self.queue, BATCH, NOW);
        batch.unwrap_or_default()
    }

    /// What Python gets next of these calls, whose callers are gone when it dies.
    fn take(&self, calls: &[u64]) -> Vec<Call> {
        for call in calls {
            std::mem::forget(self.push(*call).waiting);
        }
        self.next()
    }

    /// Die with a batch in the hand.
    fn die(self, batch: Vec<Call>) {
        drop(self.hand);
        drop(batch);
        // Callers keep the queue; what waits in it is lost with the process.
        self.queue.abort();
    }
}

impl Asked {
    fn reply(mut self) -> Reply {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let reply =
            async { tokio::time::timeout(Duration::from_secs(30), self.waiting.reply()).await };
        runtime.block_on(reply).expect("an answer")
    }
}

fn calls(batch: &[Call]) -> Vec<u64> {
    batch.iter().map(|call| call.fingerprint).collect()
}

fn answer(batch: Vec<Call>) {
    for call in batch {
        call.slot.fail(answered());
    }
}

/// Any answer of the model does; tests tell it from a lost call by its code.
fn answered() -> Status {
    Error::new(ErrorKind::BadRequest, "").into()
}

/// A process that has died while it ran these calls.
fn death(board: &Board, calls: &[u64]) {
    let process = board.start();
    let batch = process.take(calls);
    assert_eq!(batch.len(), calls.len());
    process.die(batch);
}

#[test]
fn a_call_that_died_with_its_process_runs_alone_until_it_is_answered() {
    let board = Board::new();
    let other = board.start();
    death(&board, &[1, 2]);
    let batch = other.take(&[1, 3, 4]);
    assert_eq!(calls(&batch), [3, 4]);
    answer(batch);
    let alone = other.next();
    assert_eq!(calls(&alone), [1]);
    answer(alone);
    let batch = other.take(&[1, 5]);
    assert_eq!(calls(&batch), [1, 5], "in the process that answered it");
    answer(batch);
    let third = board.start();
    let batch = third.take(&[1, 6]);
    assert_eq!(calls(&batch), [1, 6], "in every process");
    third.die(batch);
    assert_eq!(
        calls(&other.take(&[1, 3])),
        [3],
        "until it dies with one again"
    );
}

#[test]
fn a_call_that_kills_again_is_refused_by_every_process() {
    let board = Board::new();
    let (second, third) = (board.start(), board.start());
    death(&board, &[7, 8]);
    let alone = second.take(&[7]);
    assert_eq!(calls(&alone), [7]);
    second.die(alone);
    for process in [third, board.start()] {
        let asked = process.push(7);
        assert!(process.next().is_empty());
        let status = asked.reply().unwrap_err();
        assert_eq!(status.code, Code::FailedPrecondition);
        assert_eq!(status.kind, Some(ErrorKind::Poison));
        assert!(
            status
                .message
                .starts_with("request 0000000000000007 is refused for another 600 s (poison_ms)")
        );
        let neighbour = process.take(&[8]);
        assert_eq!(calls(&neighbour), [8], "its neighbour is only a suspect");
        answer(neighbour);
        assert!(process.next().is_empty(), "who asks again has done with it");
    }
}

#[test]
fn a_call_that_was_alone_by_chance_when_its_process_died_is_a_suspect_only() {
    let board = Board::new();
    let other = board.start();
    death(&board, &[7]);
    let alone = other.take(&[7]);
    assert_eq!(calls(&alone), [7]);
}

#[test]
fn poison_and_suspects_are_forgotten_in_time() {
    let board = Board::new();
    let process = board.open(200);
    let batch = process.take(&[7]);
    process.die(batch);
    let process = board.open(200);
    let batch = process.take(&[7]);
    process.die(batch);
    let process = board.open(200);
    let asked = process.push(7);
    assert!(process.next().is_empty());
    let status = asked.reply().unwrap_err();
    assert_eq!(status.kind, Some(ErrorKind::Poison));
    let until = Instant::now() + Duration::from_secs(10);
    while process.take(&[7, 9]).len() != 2 {
        assert!(Instant::now() < until, "it is refused for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_suspect_runs_in_one_process_at_a_time() {
    let board = Board::new();
    let (second, third) = (board.start(), board.start());
    death(&board, &[7]);
    let alone = second.take(&[7]);
    assert_eq!(calls(&alone), [7]);
    let asked = third.push(7);
    assert!(third.next().is_empty());
    let others = third.take(&[8]);
    assert_eq!(calls(&others), [8], "nobody else waits for it");
    answer(others);
    second.die(alone);
    assert!(third.next().is_empty());
    assert_eq!(asked.reply().unwrap_err().kind, Some(ErrorKind::Poison));
}

#[test]
fn a_suspect_that_another_process_answers_waits_no_longer() {
    let board = Board::new();
    let (second, third) = (board.start(), board.start());
    death(&board, &[7]);
    let alone = second.take(&[7]);
    assert!(third.take(&[7, 7]).is_empty());
    answer(alone);
    assert!(second.next().is_empty());
    assert_eq!(calls(&third.next()), [7, 7]);
}

#[test]
fn a_process_that_dies_is_seen_by_those_that_knew_it_alive() {
    let board = Board::new();
    let (process, other) = (board.start(), board.start());
    answer(other.take(&[9]));
    let batch = process.take(&[1, 2]);
    answer(other.take(&[9]));
    process.die(batch);
    assert_eq!(calls(&other.take(&[1, 3])), [3]);
}

#[test]
fn suspects_whose_callers_have_gone_or_are_late_are_not_run() {
    let board = Board::new();
    let process = board.start();
    death(&board, &[7, 8]);
    let batch = process.take(&[1]);
    let gone = process.push(7);
    let late = process.push_for(8, Duration::from_millis(200));
    assert!(process.next().is_empty());
    drop(gone);
    std::thread::sleep(Duration::from_millis(210));
    answer(batch);
    assert!(process.next().is_empty());
    assert_eq!(late.reply().unwrap_err().code, Code::DeadlineExceeded);
}

#[test]
fn suspects_and_others_take_turns() {
    let board = Board::new();
    let process = board.start();
    death(&board, &[1, 2, 3]);
    let mut asked = Vec::from([1, 2, 3].map(|call| process.push(call)));
    let mut turns = Vec::new();
    for other in [10, 11, 12, 13, 14, 15] {
        asked.push(process.push(other));
        let batch = process.next();
        turns.push(calls(&batch));
        answer(batch);
    }
    let expected: [&[u64]; 6] = [&[10], &[1], &[11, 12], &[2], &[13, 14], &[3]];
    assert_eq!(turns, expected);
}

#[test]
fn a_suspect_is_alone_though_python_takes_a_batch_beside_another() {
    let board = Board::new();
    let process = board.start();
    death(&board, &[7]);
    let first = process.take(&[1, 7]);
    assert_eq!(calls(&first), [1]);
    assert!(process.take(&[2]).is_empty(), "it is the suspect's turn");
    answer(first);
    let alone = process.next();
    assert_eq!(calls(&alone), [7]);
    assert!(process.take(&[3]).is_empty(), "it is alone");
    answer(alone);
    assert_eq!(calls(&process.next()), [2, 3]);
}

#[test]
fn both_batches_of_a_process_that_had_two_are_suspects() {
    let board = Board::new();
    let (process, other) = (board.start(), board.start());
    let mut batches = process.take(&[1]);
    batches.extend(process.take(&[2]));
    process.die(batches);
    assert_eq!(calls(&other.take(&[1, 2, 3])), [3]);
}

#[test]
fn calls_that_were_answered_are_no_suspects() {
    let board = Board::new();
    let other = board.start();
    let process = board.start();
    answer(process.take(&[1, 2]));
    process.hand.abort();
    drop(process);
    let process = board.start();
    answer(process.take(&[3]));
    assert!(process.next().is_empty());
    drop(process);
    assert_eq!(calls(&other.take(&[1, 2, 3])), [1, 2, 3]);
}

#[test]
fn a_stop_answers_the_suspects_that_wait() {
    let board = Board::new();
    let process = board.start();
    death(&board, &[7]);
    let asked = process.push(7);
    let batch = process.take(&[1]);
    process.hand.abort();
    assert_eq!(asked.reply().unwrap_err().kind, Some(ErrorKind::Draining));
    answer(batch);
}

#[test]
fn a_dead_process_is_remembered_whoever_starts_and_its_slot_is_used_again() {
    let board = Board::new();
    death(&board, &[7]);
    for _ in 0..10 {
        drop(board.start());
    }
    let process = board.start();
    assert_eq!(calls(&process.take(&[1, 7])), [1]);
    drop(process);
    let two = board.bytes();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(2));
        let process = board.open(1);
        let batch = process.take(&[8]);
        process.die(batch);
    }
    assert_eq!(board.bytes(), two);
}

#[test]
fn more_suspects_than_may_wait_are_shed() {
    let board = Board::new();
    let process = board.start();
    death(&board, &[7]);
    let asked: Vec<_> = (0..=MOST_WAITING).map(|_| process.push(7)).collect();
    let batch = process.hand.next_batch(&process.queue, 5000, NOW);
    assert_eq!(batch.map_or(0, |batch| batch.len()), 1);
    let last = asked.into_iter().next_back().unwrap();
    assert_eq!(last.reply().unwrap_err().kind, Some(ErrorKind::Shed));
}

#[test]
fn a_file_that_is_none_of_ours_is_left_as_it_is() {
    let board = Board::new();
    std::fs::write(&board.0, "something else that is long enough").unwrap();
    let path = board.0.to_str().unwrap().to_owned();
    let config = HandsConfig {
        path: path.clone(),
        poison_ms: LONG,
    };
    let error = Hand::open(&config, BATCH).unwrap_err();
    assert_eq!(error, format!("{path}: it was made by another version"));
    assert_eq!(
        std::fs::read(&path).unwrap(),
        b"something else that is long enough"
    );
}

#[test]
fn a_request_is_the_same_with_another_id() {
    // meta {puid, tags} and strData; meta {puid} alone; id and model_name.
    let seldon = |id: &str, tag: &str, text: &str| {
        let tag = [
            &[0x12, 2, 0x0a, 0][..],
            &[0x12, tag.len() as u8],
            tag.as_bytes(),
        ]
        .concat();
        let meta = [&[0x0a, id.len() as u8], id.as_bytes(), &tag].concat();
        let text = [&[0x2a, text.len() as u8], text.as_bytes()].concat();
        [&[0x12, meta.len() as u8], &meta[..], &text].concat()
    };
    let of = |message: &[u8]| fingerprint(Method::Predict, message);
    assert_eq!(of(&seldon("a", "", "x")), of(&seldon("abc", "", "x")));
    assert_ne!(of(&seldon("a", "", "x")), of(&seldon("a", "", "y")));
    assert_ne!(of(&seldon("a", "", "x")), of(&seldon("a", "t", "x")));
    let infer = |id: &str, name: &str| {
        let id = [&[0x1a, id.len() as u8], id.as_bytes()].concat();
        [&[0x0a, name.len() as u8], name.as_bytes(), &id].concat()
    };
    let of = |method, message: &[u8]| fingerprint(method, message);
    for method in [Method::Infer, Method::StreamInfer] {
        assert_eq!(of(method, &infer("a", "m")), of(method, &infer("bc", "m")));
        assert_ne!(of(method, &infer("a", "m")), of(method, &infer("a", "n")));
        assert_eq!(of(method, &infer("a", "m")), of(method, b"\x0a\x01m"));
    }
    let without_meta = fingerprint(Method::Predict, b"\x2a\x01x");
    let only_puid = fingerprint(Method::Predict, b"\x12\x03\x0a\x01a\x2a\x01x");
    assert_eq!(without_meta, only_puid);
}

#[test]
fn a_request_is_known_by_its_method_and_its_message() {
    let of = |method, message: &[u8]| fingerprint(method, message);
    assert_eq!(of(Method::Infer, b"a"), of(Method::Infer, b"a"));
    assert_ne!(of(Method::Infer, b"a"), of(Method::Predict, b"a"));
    assert_ne!(of(Method::Infer, b"a"), of(Method::Infer, b"b"));
}

/// What happens next to a fleet.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A caller sends an innocent request; few different ones, so that many are the same.
    Ask(u64),
    /// Each poison request is sent once; what comes after its end is sent anew.
    Poison(u64),
    /// A process's Python takes a batch and runs it to its end.
    Run(usize),
    /// Somebody kills a process that runs no suspect.
    Kill(usize),
}

const POISON: u64 = 1000;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6u64).prop_map(Event::Ask),
        1 => (0..3u64).prop_map(|which| Event::Poison(POISON + which)),
        6 => (0..4usize).prop_map(Event::Run),
        1 => (0..4usize).prop_map(Event::Kill),
    ]
}

/// Processes behind an access service that sends lost calls again.
struct Fleet {
    board: Board,
    processes: Vec<Process>,
    asked: Vec<Asked>,
    deaths: BTreeMap<u64, u32>,
    refused: Vec<u64>,
    next: usize,
}

impl Fleet {
    fn ask(&mut self, call: u64) {
        self.next += 1;
        let index = self.next % self.processes.len();
        let asked = self.processes[index].push(call);
        self.asked.push(asked);
    }

    fn run(&mut self, index: usize, is_killed: bool) {
        let index = index % self.processes.len();
        let process = &self.processes[index];
        let batch = process.next();
        let is_suspect = process
            .hand
            .lock()
            .in_hand
            .iter()
            .any(|taken| taken.is_suspect);
        // Python runs one call after the other: the first poison kills.
        match calls(&batch).into_iter().find(|call| *call >= POISON) {
            Some(killer) => {
                *self.deaths.entry(killer).or_default() += 1;
                self.kill(index, batch);
            }
            None if is_killed && !is_suspect => self.kill(index, batch),
            None => answer(batch),
        }
    }

    fn kill(&mut self, index: usize, batch: Vec<Call>) {
        let dead = std::mem::replace(&mut self.processes[index], self.board.start());
        dead.die(batch);
        self.settle();
    }

    /// Take the answers that there are; send again what was lost.
    fn settle(&mut self) {
        for mut asked in std::mem::take(&mut self.asked) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            let reply = runtime.block_on(async {
                tokio::select! {
                    biased;
                    reply = asked.waiting.reply() => Some(reply),
                    () = std::future::ready(()) => None,
                }
            });
            match reply.map(|reply| reply.unwrap_err().kind) {
                None => self.asked.push(asked),
                Some(Some(ErrorKind::BadRequest)) => {}
                Some(Some(ErrorKind::Poison)) => self.refused.push(asked.fingerprint),
                Some(_) => self.ask(asked.fingerprint),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_poison_kills_twice_at_most_and_no_innocent_is_refused(
        instances in 1..4usize,
        events in prop::collection::vec(event(), 1..150),
    ) {
        let board = Board::new();
        let processes = (0..instances).map(|_| board.start()).collect();
        let mut fleet = Fleet {
            board, processes, asked: Vec::new(), deaths: BTreeMap::new(), refused: Vec::new(), next: 0,
        };
        for event in events {
            match event {
                Event::Ask(call) => fleet.ask(call),
                Event::Poison(call) if fleet.asked.iter().all(|asked| asked.fingerprint != call) => fleet.ask(call),
                Event::Poison(_) => {}
                Event::Run(index) => fleet.run(index, false),
                Event::Kill(index) => fleet.run(index, true),
            }
        }
        // All that is left is answered in the end.
        for round in 0..400 {
            fleet.run(round, false);
            fleet.settle();
        }
        prop_assert!(fleet.asked.is_empty(), "{} calls were never answered", fleet.asked.len());
        for (call, deaths) in &fleet.deaths {
            prop_assert!(*deaths <= 2, "{call} has killed {deaths} processes");
        }
        for call in &fleet.refused {
            prop_assert!(*call >= POISON, "{call} is refused");
        }
    }
}
