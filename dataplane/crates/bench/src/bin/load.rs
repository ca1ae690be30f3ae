//! `load ADDRESS --path /pkg.Service/Method --body FILE [--rate 200] [--seconds 10] [--connections 4]
//! [--deadline-ms 1000] [--header NAME=VALUE]... [--share-by access-endpoint] [--echo yes]
//! [--arrivals FILE] [--class NAME[,KEY=VALUE]...]... [--records FILE] [--http1 yes]`
//!
//! Unary calls at a fixed rate, whatever the answers do (open loop). FILE holds the message without gRPC
//! prefix. Prints `started UNIX_SECONDS`, and at the end one line of JSON ([`dl_bench::report`]). The line
//! `stop` on standard input ends the run early.
//!
//! With `--arrivals` calls are due as that file says ([`dl_bench::arrivals`]), each of a class: `--class heavy,cost=40`
//! sends `bench-class: heavy` and `cost: 40`; `deadline-ms` and `body` among its keys replace the options.
//! `--records` writes a line for each call.
//!
//! With `--http1 yes` calls are HTTP/1.1 POSTs of FILE to the path, each on a connection of its own while it lasts:
//! `--connections` is then the most there are.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dl_bench::arguments::Arguments;
use dl_bench::arrivals::{self, Arrival};
use dl_bench::calls::{Channel, Class, Target};
use dl_bench::console::{lines, say};
use dl_bench::http1::Pool;
use dl_bench::report::{Record, report, write_records};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};

const OPTIONS: [&str; 13] = [
    "path",
    "body",
    "rate",
    "seconds",
    "connections",
    "deadline-ms",
    "header",
    "share-by",
    "echo",
    "arrivals",
    "class",
    "records",
    "http1",
];

struct Plan {
    target: &'static Target,
    classes: &'static [Class],
    arrivals: Box<dyn Iterator<Item = Arrival> + Send>,
    connections: usize,
    is_http1: bool,
    /// File for a line of each call.
    records: Option<String>,
    /// What was asked for, for the report.
    told: Value,
}

/// What a call goes out on.
#[derive(Clone)]
enum Way {
    Grpc(Rc<Channel<'static>>),
    Http1(Rc<Pool<'static>>),
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
    let share_by = arguments.text("share-by").unwrap_or("access-endpoint");
    let target = Target {
        address: address.clone(),
        path: arguments.text("path").ok_or("--path is needed")?.to_owned(),
        share_by: share_by
            .parse()
            .map_err(|_| format!("--share-by {share_by}: no header name"))?,
        expect_echo: arguments.text("echo") == Some("yes"),
    };
    let classes = classes(&arguments)?;
    let rate = arguments.number("rate")?.unwrap_or(200.0);
    let seconds = arguments.number("seconds")?.unwrap_or(10.0);
    let connections = arguments.number("connections")?.unwrap_or(4);
    if rate <= 0.0 || seconds <= 0.0 || connections == 0 {
        return Err("--rate, --seconds and --connections must be above 0".to_owned());
    }
    let arrivals = match arguments.text("arrivals") {
        Some(file) => Box::new(arrivals::read(&text(file)?, classes.len())?.into_iter()),
        None => arrivals::steady(rate, seconds),
    };
    let told = json!({
        "rate": rate,
        "connections": connections,
        "deadline_ms": classes[0].deadline.as_millis(),
        "body_bytes": classes[0].body.len() - 5,
    });
    Ok(Plan {
        // Live as long as the program, so that calls can borrow them.
        target: Box::leak(Box::new(target)),
        classes: Vec::leak(classes),
        arrivals,
        connections,
        is_http1: arguments.text("http1") == Some("yes"),
        records: arguments.text("records").map(str::to_owned),
        told,
    })
}

fn text(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

/// The classes of `--class`, or one that sends nothing of its own.
fn classes(arguments: &Arguments) -> Result<Vec<Class>, String> {
    match arguments.all("class") {
        [] => Ok(vec![class(arguments, "")?]),
        words => words.iter().map(|word| class(arguments, word)).collect(),
    }
}

fn class(arguments: &Arguments, word: &str) -> Result<Class, String> {
    let mut parts = word.split(',');
    let name = parts.next().unwrap_or_default();
    let mut headers = headers(arguments.all("header"))?;
    if !name.is_empty() {
        add(&mut headers, &format!("bench-class={name}"))?;
    }
    let mut file = arguments.text("body").ok_or("--body is needed")?;
    let mut deadline_ms = arguments.number("deadline-ms")?.unwrap_or(1000.0);
    for part in parts {
        match part.split_once('=') {
            Some(("deadline-ms", ms)) => {
                deadline_ms = ms.parse().map_err(|_| format!("{part}: not a number"))?;
            }
            Some(("body", path)) => file = path,
            _ => add(&mut headers, part)?,
        }
    }
    let message = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(Class {
        name: name.to_owned(),
        headers,
        body: Target::frame(&message)?,
        deadline: Duration::from_secs_f64(deadline_ms / 1000.0),
    })
}

fn headers(pairs: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for pair in pairs {
        add(&mut headers, pair)?;
    }
    Ok(headers)
}

fn add(headers: &mut HeaderMap, pair: &str) -> Result<(), String> {
    let wrong = || format!("{pair}: NAME=VALUE is needed");
    let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
    let name: HeaderName = name.parse().map_err(|_| wrong())?;
    headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    Ok(())
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
    let (classes, file, mut told) = (plan.classes, plan.records.clone(), plan.told.clone());
    let mut records = LocalSet::new().block_on(&runtime, drive(plan, start));
    let result = report(&mut records);
    if let Some(file) = file {
        let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
        write_records(&records, &names, &file).map_err(|error| format!("{file}: {error}"))?;
    }
    told["started_at"] = json!(started_at);
    if let (Value::Object(told), Value::Object(mut result)) = (told, result) {
        result.extend(told);
        say(&Value::Object(result).to_string()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Start each call when it is due; gather all.
async fn drive(plan: Plan, start: Instant) -> Vec<Record> {
    let ways: Vec<_> = if plan.is_http1 {
        vec![Way::Http1(Rc::new(Pool::new(
            plan.target,
            plan.connections,
        )))]
    } else {
        let open = |_| Way::Grpc(Rc::new(Channel::new(plan.target)));
        (0..plan.connections).map(open).collect()
    };
    let mut due = arrivals::pace(plan.arrivals, start);
    let mut commands = lines();
    let mut open = true;
    let mut calls = JoinSet::new();
    let mut next = 0;
    loop {
        tokio::select! {
            arrival = due.recv() => match arrival {
                Some((at, class)) => {
                    let way = ways[next % ways.len()].clone();
                    next += 1;
                    calls.spawn_local(call(way, start, at, (class, &plan.classes[class])));
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
    way: Way,
    start: Instant,
    due: Duration,
    (number, class): (usize, &'static Class),
) -> Record {
    let sent = start.elapsed();
    let deadline = start + due + class.deadline;
    let outcome = match way {
        Way::Grpc(channel) => channel.call(class, deadline).await,
        Way::Http1(pool) => pool.call(class, deadline).await,
    };
    Record {
        due_us: us(due),
        sent_us: us(sent),
        done_us: us(start.elapsed()),
        class: number,
        outcome,
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
