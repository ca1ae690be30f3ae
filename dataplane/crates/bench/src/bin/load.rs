//! `load ADDRESS --path /pkg.Service/Method --body FILE [--rate 200] [--seconds 10] [--connections 4]
//! [--deadline-ms 1000] [--header NAME=VALUE]... [--share-by access-endpoint] [--echo yes]`
//!
//! Unary calls at a fixed rate, whatever the answers do (open loop). FILE holds the message without gRPC
//! prefix. Prints `started UNIX_SECONDS`, and at the end one line of JSON ([`dl_bench::report`]). The line
//! `stop` on standard input ends the run early.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dl_bench::arguments::Arguments;
use dl_bench::calls::{Channel, Target};
use dl_bench::console::{lines, say};
use dl_bench::report::{Record, report};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::{JoinSet, LocalSet};

const OPTIONS: [&str; 9] = [
    "path",
    "body",
    "rate",
    "seconds",
    "connections",
    "deadline-ms",
    "header",
    "share-by",
    "echo",
];

struct Plan {
    target: &'static Target,
    rate: f64,
    seconds: f64,
    connections: usize,
    deadline: Duration,
}

fn main() -> ExitCode {
    match plan().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("load: {message}");
            ExitCode::FAILURE
        }
    }
}

fn plan() -> Result<Plan, String> {
    let arguments = Arguments::parse(std::env::args().skip(1), &OPTIONS)?;
    let [address] = arguments.positional.as_slice() else {
        return Err("exactly one address is needed".to_owned());
    };
    let file = arguments.text("body").ok_or("--body is needed")?;
    let message = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let share_by = arguments.text("share-by").unwrap_or("access-endpoint");
    let target = Target {
        address: address.clone(),
        path: arguments.text("path").ok_or("--path is needed")?.to_owned(),
        headers: headers(arguments.all("header"))?,
        body: Target::frame(&message)?,
        share_by: share_by
            .parse()
            .map_err(|_| format!("--share-by {share_by}: no header name"))?,
        expect_echo: arguments.text("echo") == Some("yes"),
    };
    let plan = Plan {
        // Lives as long as the program, so that calls can borrow it.
        target: Box::leak(Box::new(target)),
        rate: arguments.number("rate")?.unwrap_or(200.0),
        seconds: arguments.number("seconds")?.unwrap_or(10.0),
        connections: arguments.number("connections")?.unwrap_or(4),
        deadline: Duration::from_millis(arguments.number("deadline-ms")?.unwrap_or(1000)),
    };
    if plan.rate <= 0.0 || plan.seconds <= 0.0 || plan.connections == 0 {
        return Err("--rate, --seconds and --connections must be above 0".to_owned());
    }
    Ok(plan)
}

fn headers(pairs: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for pair in pairs {
        let wrong = || format!("--header {pair}: NAME=VALUE is needed");
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

fn run(plan: Plan) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let started_at = now.map_err(|error| error.to_string())?.as_secs_f64();
    let start = Instant::now();
    say(&format!("started {started_at}")).map_err(|error| error.to_string())?;
    let mut records = LocalSet::new().block_on(&runtime, drive(&plan, start));
    let mut result = report(&mut records);
    result["started_at"] = json!(started_at);
    result["rate"] = json!(plan.rate);
    result["connections"] = json!(plan.connections);
    result["deadline_ms"] = json!(plan.deadline.as_millis());
    result["body_bytes"] = json!(plan.target.body.len() - 5);
    say(&result.to_string()).map_err(|error| error.to_string())
}

/// Start each call when it is due; gather all.
async fn drive(plan: &Plan, start: Instant) -> Vec<Record> {
    let channels: Vec<_> = (0..plan.connections)
        .map(|_| std::rc::Rc::new(Channel::new(plan.target)))
        .collect();
    let mut due = pace(plan, start);
    let mut commands = lines();
    let mut open = true;
    let mut calls = JoinSet::new();
    let mut next = 0;
    loop {
        tokio::select! {
            at = due.recv() => match at {
                Some(at) => {
                    let channel = channels[next % channels.len()].clone();
                    next += 1;
                    calls.spawn_local(call(channel, start, at, plan.deadline));
                }
                None => break,
            },
            line = commands.recv(), if open => match line.as_deref() {
                Some("stop") => break,
                Some(_) => {}
                None => open = false,
            },
        }
    }
    calls.join_all().await
}

async fn call(
    channel: std::rc::Rc<Channel<'static>>,
    start: Instant,
    due: Duration,
    deadline: Duration,
) -> Record {
    let sent = start.elapsed();
    let outcome = channel.call(start + due + deadline).await;
    Record {
        due_us: us(due),
        sent_us: us(sent),
        done_us: us(start.elapsed()),
        outcome,
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A thread that says when calls are due: the runtime's timers tick in ms, which would be in every latency.
fn pace(plan: &Plan, start: Instant) -> UnboundedReceiver<Duration> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (rate, seconds) = (plan.rate, plan.seconds);
    // Not joined: it ends within one interval of the receiver's drop, or with the process.
    std::thread::spawn(move || {
        let mut number = 0.0;
        while number / rate < seconds {
            let due = Duration::from_secs_f64(number / rate);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            if sender.send(due).is_err() {
                return;
            }
            number += 1.0;
        }
    });
    receiver
}
