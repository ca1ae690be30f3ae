//! `endpoint ADDRESS... [--body BYTES | --echo yes] [--delay-ms N] [--status CODE] [--name TEXT]
//! [--service LAW [--slots N] [--queue N] [--seed N]]`
//!
//! With a service law ([`dl_bench::station`]) a call takes its time in one of the slots; calls that neither a slot
//! nor the queue has room for get RESOURCE_EXHAUSTED. Without one, answers are at once.
//!
//! Answers any unary gRPC call on every address. Prints `listening ADDRESS` for each, then `ready`. Each
//! line of standard input is a command of [`dl_bench::fault`], answered by `done LINE` once it is applied;
//! `count` is answered by `count CALLS CONNECTIONS`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::rc::Rc;

use dl_bench::arguments::Arguments;
use dl_bench::console::{lines, say};
use dl_bench::fault::Mode;
use dl_bench::serve::{Endpoint, Reply};
use dl_bench::socket::Listener;
use dl_bench::station::{Law, Station};
use http::HeaderValue;
use tokio::task::{JoinSet, LocalSet};

const OPTIONS: [&str; 9] = [
    "body", "echo", "delay-ms", "status", "name", "service", "slots", "queue", "seed",
];
/// More than any test has calls.
const UNLIMITED: usize = 1 << 40;
const SMALL_REPLY_BYTES: usize = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("endpoint: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::parse(std::env::args().skip(1), &OPTIONS)?;
    if arguments.positional.is_empty() {
        return Err("which address? (host:port or unix:/path)".to_owned());
    }
    let endpoint = Endpoint::new(
        mode(&arguments)?,
        station(&arguments)?,
        reply(&arguments)?,
        name(&arguments)?,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let serve = serve(endpoint, arguments.positional);
    LocalSet::new().block_on(&runtime, serve)
}

fn mode(arguments: &Arguments) -> Result<Mode, String> {
    if let Some(code) = arguments.number("status")? {
        return Ok(Mode::Status(code, 0));
    }
    Ok(arguments.number("delay-ms")?.map_or(Mode::Ok, Mode::Slow))
}

fn station(arguments: &Arguments) -> Result<Station, String> {
    let law = match arguments.text("service") {
        Some(text) => text.parse().map_err(|error| format!("--service {error}"))?,
        None => Law::Constant(0.0),
    };
    Ok(Station::new(
        law,
        arguments.number("slots")?.unwrap_or(UNLIMITED),
        arguments.number("queue")?.unwrap_or(UNLIMITED),
        arguments.number("seed")?.unwrap_or(0),
    ))
}

fn reply(arguments: &Arguments) -> Result<Reply, String> {
    match arguments.text("echo") {
        Some("yes") => Ok(Reply::Echo),
        Some(other) => Err(format!("--echo {other}: only yes is known")),
        None => Ok(Reply::of_size(
            arguments.number("body")?.unwrap_or(SMALL_REPLY_BYTES),
        )),
    }
}

fn name(arguments: &Arguments) -> Result<Option<HeaderValue>, String> {
    arguments
        .text("name")
        .map(|name| HeaderValue::from_str(name).map_err(|error| format!("--name {name}: {error}")))
        .transpose()
}

async fn serve(endpoint: Rc<Endpoint>, addresses: Vec<String>) -> Result<(), String> {
    let mut listening = JoinSet::new();
    for address in addresses {
        let listener = Listener::bind(&address)
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        let bound = listener.address().map_err(|error| error.to_string())?;
        say(&format!("listening {bound}")).map_err(|error| error.to_string())?;
        listening.spawn_local(endpoint.clone().listen(listener));
    }
    say("ready").map_err(|error| error.to_string())?;
    let mut commands = lines();
    let mut open = true;
    loop {
        tokio::select! {
            ended = listening.join_next() => return match ended {
                Some(Ok(Err(error))) => Err(format!("accept: {error}")),
                other => Err(format!("listening ended: {other:?}")),
            },
            line = commands.recv(), if open => match line {
                Some(line) => say(&obey(&endpoint, &line)).map_err(|error| error.to_string())?,
                None => open = false,
            },
        }
    }
}

fn obey(endpoint: &Endpoint, line: &str) -> String {
    if line == "count" {
        let (calls, connections) = endpoint.counts();
        return format!("count {calls} {connections}");
    }
    match line.parse() {
        Ok(command) => {
            endpoint.obey(command);
            format!("done {line}")
        }
        Err(error) => format!("error {error}"),
    }
}
