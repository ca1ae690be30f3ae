//! The tasks that serve calls. One that has served its call waits for the next: a task for each call would be 4 KB of
//! memory that is taken, filled twice and given back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::access_log::web::WebRequest;
use super::caller::Who;
use super::worker::Worker;
use crate::net::guard::StreamGuard;
use crate::net::stream::{Answer, Body, Head};

/// Tasks of a worker that may wait for a call: what more calls at a time need is made, and ends with them.
const MOST_IDLE: usize = 128;

/// A call that is to be served. Its headers hold no credentials any more.
pub struct Given {
    pub worker: Rc<Worker>,
    pub who: Who,
    pub head: Head,
    pub body: Body,
    pub answer: Answer,
    pub stream: StreamGuard,
    /// The request over HTTP that the call is made for, where there is an access log.
    pub web: Option<Rc<WebRequest>>,
}

/// The tasks of a worker that have no call.
#[derive(Default)]
pub struct Runners {
    idle: RefCell<Vec<Rc<Runner>>>,
}

/// One task.
#[derive(Default)]
pub struct Runner {
    given: RefCell<Option<Given>>,
    /// Its task's, while it has no call.
    waker: RefCell<Option<Waker>>,
}

// === impl Runners ===

impl Runners {
    /// Let a call be served by a task that has none, or by a new one, which `start` starts.
    pub fn run(self: &Rc<Self>, call: Given, start: impl FnOnce(Rc<Runner>, Rc<Self>)) {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(runner) => runner.give(call),
            None => {
                let runner = Rc::new(Runner::default());
                runner.give(call);
                start(runner, self.clone());
            }
        }
    }

    /// A task's call is over. False where enough others wait already: it is to end.
    pub fn rest(&self, runner: &Rc<Runner>) -> bool {
        let mut idle = self.idle.borrow_mut();
        let is_wanted = idle.len() < MOST_IDLE;
        if is_wanted {
            idle.push(runner.clone());
        }
        is_wanted
    }
}

// === impl Runner ===

impl Runner {
    fn give(&self, call: Given) {
        *self.given.borrow_mut() = Some(call);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The next call that the task is given.
    pub async fn next(&self) -> Given {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Given> {
        if let Some(call) = self.given.borrow_mut().take() {
            return Poll::Ready(call);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
