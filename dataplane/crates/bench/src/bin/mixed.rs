//! `mixed ADDRESS --calls N | --cancels N [--lines 8] [--each 12] [--seed 1]`
//!
//! Calls of the echoing stand-in endpoint, behind an access service, on so many connections, so many at a time on each.
//!
//! `--calls`: of every kind ([`dl_bench::mixed::plan`]), on connections with windows large and small, which are left now
//! and then. `--cancels`: small ones, until so many have been cancelled among those that are not; connections stay, and
//! each makes one more call at the end.
//!
//! Prints `started`, and at the end one line of JSON: what became of the calls, by their kind.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use dl_bench::arguments::Arguments;
use dl_bench::console::say;
use dl_bench::mixed::call::make;
use dl_bench::mixed::line::{Line, Windows};
use dl_bench::mixed::plan::{End, Plan};
use dl_bench::mixed::tally::Tally;
use tokio::task::{JoinSet, LocalSet};

const OPTIONS: [&str; 5] = ["calls", "cancels", "lines", "each", "seed"];
/// Calls that a connection has before it is left.
const LEAVE_AFTER: u64 = 700;
const LARGE: Windows = Windows {
    stream: 8 << 20,
    connection: 64 << 20,
};
/// HTTP/2's own, smaller, and in between.
const WINDOWS: [Windows; 4] = [
    LARGE,
    Windows {
        stream: 65_535,
        connection: 65_535,
    },
    Windows {
        stream: 4096,
        connection: 65_535,
    },
    Windows {
        stream: 1 << 20,
        connection: 1 << 20,
    },
];

struct Goal {
    seed: u64,
    calls: Option<u64>,
    cancels: u64,
    next: Cell<u64>,
    tally: Rc<RefCell<Tally>>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mixed: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::parse(std::env::args().skip(1), &OPTIONS)?;
    let [address] = arguments.positional.as_slice() else {
        return Err("exactly one address is needed".to_owned());
    };
    let goal = Rc::new(Goal {
        seed: arguments.number("seed")?.unwrap_or(1),
        calls: arguments.number("calls")?,
        cancels: arguments.number("cancels")?.unwrap_or(0),
        next: Cell::new(0),
        tally: Rc::default(),
    });
    if goal.calls.is_some() == (goal.cancels > 0) {
        return Err("either --calls or --cancels is needed".to_owned());
    }
    let lines: usize = arguments.number("lines")?.unwrap_or(8);
    let each: usize = arguments.number("each")?.unwrap_or(12);
    let leave_after = goal.calls.map(|_| LEAVE_AFTER);
    let windows = |number: usize| match goal.calls {
        Some(_) => WINDOWS[number % WINDOWS.len()],
        None => LARGE,
    };
    let line = |number| Line::new(address, windows(number), leave_after, goal.tally.clone());
    let lines: Vec<Rc<Line>> = (0..lines).map(|number| Rc::new(line(number))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    say("started").map_err(|error| error.to_string())?;
    let start = Instant::now();
    LocalSet::new().block_on(&runtime, call_all(&goal, &lines, each));
    let mut report = goal.tally.borrow().report(start.elapsed());
    report["lines"] = lines.len().into();
    say(&report.to_string()).map_err(|error| error.to_string())
}

async fn call_all(goal: &Rc<Goal>, lines: &[Rc<Line>], each: usize) {
    let mut callers = JoinSet::new();
    for line in lines {
        for _ in 0..each {
            let (goal, line) = (goal.clone(), line.clone());
            callers.spawn_local(async move {
                while let Some(plan) = goal.next() {
                    goal.make(&line, &plan).await;
                }
            });
        }
    }
    while callers.join_next().await.is_some() {}
    if goal.calls.is_none() {
        for line in lines {
            let mut plan = Plan::draw_small(goal.seed, goal.take());
            plan.end = End::Answer;
            goal.make(line, &plan).await;
        }
    }
}

impl Goal {
    fn take(&self) -> u64 {
        let call = self.next.get();
        self.next.set(call + 1);
        call
    }

    /// The next call, until the goal is reached.
    fn next(&self) -> Option<Plan> {
        match self.calls {
            Some(calls) if self.next.get() >= calls => None,
            Some(_) => Some(Plan::draw(self.seed, self.take())),
            None if self.tally.borrow().of("cancelled") >= self.cancels => None,
            None => Some(Plan::draw_small(self.seed, self.take())),
        }
    }

    async fn make(&self, line: &Line, plan: &Plan) {
        let outcome = make(line, plan).await;
        let what = format!("{plan:?}");
        self.tally.borrow_mut().add(&plan.name(), &what, &outcome);
    }
}
