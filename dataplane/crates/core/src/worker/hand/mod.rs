//! Which calls Python has in its hand, and what follows when a process dies with them.
//!
//! A call that was in the hand of a process that died is a suspect: it runs alone. When the process dies that runs it
//! alone, it is poison: no process of this model version runs it until `poison_ms` are over. A suspect that is answered
//! is none any more. Calls are known by a [`fingerprint`] of their messages, so that the same request sent again is the
//! same call. Only processes that were told of a common file ([`board`]) do any of this.

mod board;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashMap;

use self::board::Board;
use super::codec;
use super::method::Method;
use super::queue::{Call, Queue};
use super::reply::expired;
use crate::config::HandsConfig;
use crate::error::{Error, ErrorKind};

/// A larger hand is written as far as this: 64 KiB.
const MOST_WRITTEN: usize = 8192;

/// Suspects that may wait for their turn; more are shed.
const MOST_WAITING: usize = 1024;

/// How often suspects are looked at that another process runs, when nothing else is to do, and a hand that has to be
/// empty: nobody is woken when that changes.
const LOOK: Duration = Duration::from_millis(10);

/// What is known of a call that was in the hand of a process that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It runs alone. The time is when the last process took it that died with it, ns since 1970, as all times of a board.
    Suspect { taken_at: u64 },
    /// It is refused until then.
    Poison { until: u64 },
}

/// The hand of this process. Threads may share it.
#[derive(Debug)]
pub struct Hand {
    keep_ns: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    board: Board,
    verdicts: FxHashMap<u64, Verdict>,
    /// Suspects, and calls that were some, that wait for their turn.
    waiting: VecDeque<Call>,
    in_hand: Vec<Taken>,
    /// Calls that the board says are in the hand.
    written: usize,
    /// After each suspect others have their turn.
    is_others_turn: bool,
    /// What keeps the board from being read or written; told once.
    trouble: Option<String>,
    is_trouble_told: bool,
}

/// A batch that Python works on, for as long as one of its calls has a slot.
#[derive(Debug)]
struct Taken {
    calls: Vec<u64>,
    token: Weak<()>,
    /// This process holds the suspect's lock.
    is_suspect: bool,
}

/// What tells a request from others; its id does not: SeldonMessage.meta.puid, ModelInferRequest.id.
pub fn fingerprint(method: Method, message: &[u8]) -> u64 {
    let id: &[u32] = match method {
        Method::Predict | Method::SeldonPredict => &[2, 1],
        Method::Infer | Method::StreamInfer => &[3],
    };
    codec::fingerprint(message, id, method as u64)
}

// === impl Hand ===

impl Hand {
    /// Open the common file.
    ///
    /// # Errors
    /// Names the file and the system's reason.
    pub fn open(config: &HandsConfig, max_batch: usize) -> Result<Self, String> {
        // Python may take a batch while it works on another one.
        let capacity = max_batch.saturating_mul(2).min(MOST_WRITTEN);
        let keep_ns = config.poison_ms.saturating_mul(1_000_000);
        let board = Board::open(Path::new(&config.path), capacity, keep_ns, now());
        let board = board.map_err(|error| format!("{}: {error}", config.path))?;
        let state = State {
            board,
            verdicts: FxHashMap::default(),
            waiting: VecDeque::new(),
            in_hand: Vec::new(),
            written: 0,
            is_others_turn: false,
            trouble: None,
            is_trouble_told: false,
        };
        Ok(Self {
            keep_ns,
            state: Mutex::new(state),
        })
    }

    /// As [`Queue::next_batch`]; of suspects one at a time, with nothing else in Python's hand. Poison is answered here.
    ///
    /// `None` also when all that came is not for Python now.
    pub fn next_batch(&self, queue: &Queue, max: usize, timeout: Duration) -> Option<Vec<Call>> {
        let wait = {
            let mut state = self.lock();
            state.put_down();
            if state.has_to_be_empty() {
                drop(state);
                std::thread::sleep(timeout.min(LOOK));
                return None;
            }
            if !state.is_others_turn
                && let Some(batch) = state.next_waiting(self.keep_ns, max)
            {
                return Some(batch);
            }
            // The board is written once where the next batch is there already.
            let is_at_once = state.written > 0 || !state.waiting.is_empty();
            if is_at_once { Duration::ZERO } else { timeout }
        };
        let found = queue
            .next_batch(max, wait)
            .and_then(|calls| self.lock().sort(calls, self.keep_ns));
        if found.is_some() || !wait.is_zero() {
            return found;
        }
        let wait = {
            let mut state = self.lock();
            if let Some(batch) = state.next_waiting(self.keep_ns, max) {
                return Some(batch);
            }
            state.write_down();
            if state.waiting.is_empty() {
                timeout
            } else {
                timeout.min(LOOK)
            }
        };
        let calls = queue.next_batch(max, wait)?;
        self.lock().sort(calls, self.keep_ns)
    }

    /// Answer the calls that wait: nobody will take them any more. What Python has answered is in no hand.
    pub fn abort(&self) {
        let mut state = self.lock();
        state.put_down();
        state.write_down();
        for call in state.waiting.drain(..) {
            call.slot
                .fail(Error::new(ErrorKind::Draining, "the model server has stopped").into());
        }
    }

    /// What keeps the common file from being used, once, for the log.
    pub fn trouble(&self) -> Option<String> {
        let mut state = self.lock();
        let trouble = state.trouble.take().filter(|_| !state.is_trouble_told);
        state.is_trouble_told |= trouble.is_some();
        trouble
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half changed, so a panic there poisons nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Whether Python, which asks for a batch beside the one that it has, gets none: a suspect is to be alone.
    fn has_to_be_empty(&self) -> bool {
        let is_suspects_turn = !self.waiting.is_empty() && !self.is_others_turn;
        !self.in_hand.is_empty()
            && (is_suspects_turn || self.in_hand.iter().any(|taken| taken.is_suspect))
    }

    /// Forget the batches that are done with; tell everybody of a suspect that was answered.
    fn put_down(&mut self) {
        let is_done = |taken: &mut Taken| taken.token.strong_count() == 0;
        for done in self.in_hand.extract_if(.., is_done) {
            if let (true, Some(call)) = (done.is_suspect, done.calls.first()) {
                // Told before another process can get the lock, and look.
                let told = self.board.clear(*call, now());
                let told = told.and_then(|()| self.board.unlock_suspect(*call));
                note(&mut self.trouble, told);
                self.verdicts.remove(call);
            }
        }
    }

    /// Let pass what is no suspect; keep suspects for their turn, and answer poison.
    fn sort(&mut self, calls: Vec<Call>, keep_ns: u64) -> Option<Vec<Call>> {
        self.is_others_turn = false;
        let looked = self.board.look();
        if note(&mut self.trouble, looked).unwrap_or_default() {
            self.judge(keep_ns);
        }
        if self.verdicts.is_empty() {
            return self.take(calls, false);
        }
        // Rare from here on. What another process has cleared meanwhile is in the file only.
        if calls
            .iter()
            .any(|call| self.verdicts.contains_key(&call.fingerprint))
        {
            self.judge(keep_ns);
        }
        let mut passed = Vec::new();
        for call in calls {
            match self.verdicts.get(&call.fingerprint) {
                None => passed.push(call),
                Some(Verdict::Suspect { .. }) => self.wait_for_turn(call),
                Some(Verdict::Poison { until }) => refuse(call, *until),
            }
        }
        self.take(passed, false)
    }

    /// The next suspect, alone, or calls that have been cleared while they waited; none while Python has a batch.
    fn next_waiting(&mut self, keep_ns: u64, max: usize) -> Option<Vec<Call>> {
        if self.waiting.is_empty() || !self.in_hand.is_empty() {
            return None;
        }
        let looked = self.board.look();
        note(&mut self.trouble, looked);
        self.judge(keep_ns);
        let mut cleared = Vec::new();
        let at = Instant::now();
        for call in std::mem::take(&mut self.waiting) {
            match self.verdicts.get(&call.fingerprint) {
                _ if call.slot.is_abandoned() => {}
                _ if call.slot.deadline() <= at => call.slot.fail(expired()),
                None if cleared.len() < max => cleared.push(call),
                Some(Verdict::Poison { until }) => refuse(call, *until),
                _ => self.waiting.push_back(call),
            }
        }
        if !cleared.is_empty() {
            return self.take(cleared, false);
        }
        let next = (0..self.waiting.len())
            .find(|index| self.may_run(self.waiting[*index].fingerprint, keep_ns))?;
        self.is_others_turn = true;
        let call = self.waiting.remove(next)?;
        self.take(vec![call], true)
    }

    /// Whether a suspect may run here and now. It then is run nowhere else.
    fn may_run(&mut self, call: u64, keep_ns: u64) -> bool {
        let locked = self.board.lock_suspect(call);
        if !note(&mut self.trouble, locked).unwrap_or_default() {
            return false;
        }
        // Another process may have had it until now, and have answered it or died.
        let looked = self.board.look();
        note(&mut self.trouble, looked);
        self.judge(keep_ns);
        let is_suspect = matches!(self.verdicts.get(&call), Some(Verdict::Suspect { .. }));
        if !is_suspect {
            let unlocked = self.board.unlock_suspect(call);
            note(&mut self.trouble, unlocked);
        }
        is_suspect
    }

    fn wait_for_turn(&mut self, call: Call) {
        if self.waiting.len() < MOST_WAITING {
            return self.waiting.push_back(call);
        }
        let text = format!(
            "{MOST_WAITING} requests wait to run alone, as a process died with them; try again later"
        );
        call.slot.fail(Error::new(ErrorKind::Shed, text).into());
    }

    /// Put calls into the hand: on the board first.
    fn take(&mut self, mut calls: Vec<Call>, is_suspect: bool) -> Option<Vec<Call>> {
        if calls.is_empty() {
            return None;
        }
        let token = Arc::new(());
        for call in &mut calls {
            call.slot.hold(token.clone());
        }
        self.in_hand.push(Taken {
            calls: calls.iter().map(|call| call.fingerprint).collect(),
            token: Arc::downgrade(&token),
            is_suspect,
        });
        self.write_down();
        Some(calls)
    }

    fn write_down(&mut self) {
        let hand = &self.in_hand;
        if hand.is_empty() && self.written == 0 {
            return;
        }
        let is_suspect = hand.iter().any(|taken| taken.is_suspect);
        let calls: Vec<u64> = hand
            .iter()
            .flat_map(|taken| &taken.calls)
            .copied()
            .collect();
        let written = self.board.write_hand(&calls, is_suspect, now());
        note(&mut self.trouble, written);
        self.written = calls.len();
    }

    fn judge(&mut self, keep_ns: u64) {
        let verdicts = self.board.verdicts(keep_ns, now());
        if let Some(verdicts) = note(&mut self.trouble, verdicts) {
            self.verdicts = verdicts;
        }
    }
}

/// Keep an error for the log. Without the common file a process works on as if it had none.
fn note<T>(trouble: &mut Option<String>, result: std::io::Result<T>) -> Option<T> {
    result
        .map_err(|error| *trouble = Some(error.to_string()))
        .ok()
}

fn refuse(call: Call, until: u64) {
    let text = format!(
        "request {:016x} is refused for another {} s (poison_ms): it was in two processes of the model when they died, \
         alone in the second; correct it, or the model: the server's log says how they ended",
        call.fingerprint,
        until.saturating_sub(now()).div_ceil(1_000_000_000)
    );
    call.slot.fail(Error::new(ErrorKind::Poison, text).into());
}

/// The time that processes share, ns since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
#[path = "../hand_tests.rs"]
mod tests;
