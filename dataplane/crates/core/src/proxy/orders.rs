//! What callers ask of the control plane that owns the models: to load, unload or reload one. It takes the orders one
//! after the other and answers them when it has done them; no call waits for it but one whose model is not loaded.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::code::Code;

/// Orders that nobody has taken yet; more are refused.
const MOST_WAITING: usize = 256;
/// Answers that somebody waits for.
const MOST_ASKED: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Load,
    Unload,
    Reload,
    /// A call has come for a model that is not loaded.
    Call,
}

/// What is to be done with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// 0 where nobody waits for an answer.
    pub id: u64,
    pub action: Action,
    pub model: String,
}

/// Done, or why it was not.
pub type Done = Result<(), (Code, String)>;

#[derive(Default)]
pub struct Orders {
    inner: Mutex<Inner>,
    come: Condvar,
}

#[derive(Default)]
struct Inner {
    last: u64,
    waiting: VecDeque<Order>,
    asked: FxHashMap<u64, oneshot::Sender<Done>>,
    is_closed: bool,
}

// === impl Action ===

impl Action {
    /// What the control plane and the admin port call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
            Self::Reload => "reload",
            Self::Call => "call",
        }
    }

    /// What a caller may order by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Load, Self::Unload, Self::Reload];
        all.into_iter().find(|action| action.name() == name)
    }
}

// === impl Orders ===

impl Orders {
    /// Give an order whose outcome is looked up by its number; none where too many wait.
    pub fn give(&self, action: Action, model: &str) -> Option<u64> {
        self.add(action, model, None)
    }

    /// Give an order and wait for its outcome; none where too many wait.
    pub fn ask(&self, action: Action, model: &str) -> Option<oneshot::Receiver<Done>> {
        let (sender, receiver) = oneshot::channel();
        self.add(action, model, Some(sender)).map(|_| receiver)
    }

    /// Say that a call waits for a model; once, until that was heard.
    pub fn want(&self, model: &str) {
        let mut inner = self.lock();
        let mut waiting = inner.waiting.iter();
        let is_known = waiting.any(|it| it.action == Action::Call && it.model == model);
        if !is_known && !inner.is_closed {
            // Not limited: there is one for each model at most.
            inner.waiting.push_back(Order {
                id: 0,
                action: Action::Call,
                model: model.to_owned(),
            });
            self.come.notify_one();
        }
    }

    /// Take the next order, or wait for one; none when the time is over, or everything is. For the control plane's
    /// thread.
    pub fn next(&self, limit: Duration) -> Option<Order> {
        let is_idle = |inner: &mut Inner| inner.waiting.is_empty() && !inner.is_closed;
        let waited = self.come.wait_timeout_while(self.lock(), limit, is_idle);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.waiting.pop_front()
    }

    /// Tell whoever waits what came of an order.
    pub fn answer(&self, id: u64, done: Done) {
        if let Some(asked) = self.lock().asked.remove(&id) {
            // Who has gone does not want to know.
            let _ = asked.send(done);
        }
    }

    /// Nothing is taken any more: what waits is over.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.waiting.clear();
        inner.asked.clear();
        self.come.notify_all();
    }

    fn add(
        &self,
        action: Action,
        model: &str,
        asked: Option<oneshot::Sender<Done>>,
    ) -> Option<u64> {
        let mut inner = self.lock();
        inner.asked.retain(|_, sender| !sender.is_closed());
        let is_full = inner.waiting.len() >= MOST_WAITING || inner.asked.len() >= MOST_ASKED;
        if is_full || inner.is_closed {
            return None;
        }
        inner.last += 1;
        let id = inner.last;
        inner.asked.extend(asked.map(|sender| (id, sender)));
        inner.waiting.push_back(Order {
            id,
            action,
            model: model.to_owned(),
        });
        self.come.notify_one();
        Some(id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn orders_are_taken_in_turn_and_a_call_is_said_once() {
        let orders = Orders::default();
        orders.want("a");
        orders.want("a");
        assert_eq!(orders.give(Action::Unload, "a"), Some(1));
        orders.want("b");
        let taken: Vec<_> = std::iter::from_fn(|| orders.next(NOW))
            .map(|it| (it.action.name(), it.model, it.id))
            .collect();
        assert_eq!(
            taken,
            [
                ("call", "a".to_owned(), 0),
                ("unload", "a".to_owned(), 1),
                ("call", "b".to_owned(), 0)
            ]
        );
        orders.want("a");
        assert!(
            orders.next(NOW).is_some(),
            "heard once, it may be said again"
        );
    }

    #[tokio::test]
    async fn the_outcome_reaches_who_asked_and_the_end_reaches_everybody() {
        let orders = Orders::default();
        let first = orders.ask(Action::Load, "a").unwrap();
        let second = orders.ask(Action::Load, "b").unwrap();
        orders.answer(1, Err((Code::NotFound, "no".to_owned())));
        orders.answer(1, Ok(()));
        assert_eq!(first.await, Ok(Err((Code::NotFound, "no".to_owned()))));
        orders.close();
        assert!(second.await.is_err());
        assert_eq!(orders.give(Action::Load, "a"), None);
        assert_eq!(orders.next(Duration::from_secs(60)), None);
    }

    #[test]
    fn more_orders_than_anybody_takes_are_refused() {
        let orders = Orders::default();
        let given = (0..2 * MOST_WAITING).filter(|_| orders.give(Action::Load, "a").is_some());
        assert_eq!(given.count(), MOST_WAITING);
    }
}
