//! One call, from its plan to what became of it.

use std::cell::Cell;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Error, Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::content::{Body, Check};
use super::line::{Line, described};
use super::plan::{End, Pace, Plan, Shape};
use crate::calls::DEADLINE_EXCEEDED;

const UNARY: &str = "/tensorflow.serving.PredictionService/Predict";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// The deadline of calls that have no short one.
const FAR: Duration = Duration::from_secs(60);
/// So late after its deadline a call may be told that it is over.
const GRACE: Duration = Duration::from_secs(15);
/// A slow caller's pieces, and its pause after each.
const SLOW_PIECES: usize = 6;
const SLOW_PAUSE: Duration = Duration::from_millis(20);

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its whole answer came, so many bytes, and was right.
    Answered(usize),
    /// It failed with this code, for a reason that the access service gave; what had come was right.
    Failed(u16, String),
    /// The caller cancelled first.
    Cancelled,
    /// The caller left the connection.
    Left,
    /// HTTP/2 says that nobody has looked at it.
    Unprocessed,
    /// All that must not be.
    Wrong(String),
}

/// What is known on the way.
struct Talk<'a> {
    plan: &'a Plan,
    body: &'a Body,
    /// Messages whose answer has come.
    answered: Cell<usize>,
    changed: Notify,
}

// === impl Outcome ===

impl Outcome {
    /// What it is counted as.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Outcome::Answered(_) => "answered".to_owned(),
            Outcome::Failed(code, kind) => format!("code {code} {kind}").trim_end().to_owned(),
            Outcome::Cancelled => "cancelled".to_owned(),
            Outcome::Left => "connection left".to_owned(),
            Outcome::Unprocessed => "unprocessed".to_owned(),
            Outcome::Wrong(_) => "wrong".to_owned(),
        }
    }

    pub(super) fn taken(&self) -> usize {
        match self {
            Outcome::Answered(bytes) => *bytes,
            _ => 0,
        }
    }
}

/// Make a call. It ends, whatever the other side does.
pub async fn make(line: &Line, plan: &Plan) -> Outcome {
    let body = Body::new(plan.call, plan.is_stream(), &plan.sizes);
    let (sender, is_left) = match line.sender().await {
        Ok(open) => open,
        Err(error) => return Outcome::Wrong(format!("connect: {error}")),
    };
    let limit = match plan.end {
        End::Deadline(limit) => limit,
        _ => FAR,
    };
    let begun = match begin(sender, plan, &body, limit) {
        Ok(begun) => begun,
        Err(error) => return failed(&error, &is_left),
    };
    let talk = Talk {
        plan,
        body: &body,
        answered: Cell::new(0),
        changed: Notify::new(),
    };
    let ended = timeout(
        limit + GRACE,
        talk.run(begun, (Instant::now(), limit), &is_left),
    );
    let cancel = async {
        match plan.end {
            // Both kinds of moments: between two turns of the scheduler, and a while later.
            End::Cancel(after) if after.as_micros() % 2 == 0 => {
                for _ in 0..after.as_micros() / 500 {
                    tokio::task::yield_now().await;
                }
            }
            End::Cancel(after) => sleep(after).await,
            End::CancelAnswered => talk.wait_answered(1).await,
            _ => std::future::pending().await,
        }
    };
    // What is dropped here resets the stream.
    tokio::select! {
        biased;
        outcome = ended => outcome.unwrap_or_else(|_| {
            Outcome::Wrong(format!("lives on {GRACE:?} after its deadline of {limit:?}"))
        }),
        () = cancel => Outcome::Cancelled,
    }
}

fn begin(
    mut sender: SendRequest<Bytes>,
    plan: &Plan,
    body: &Body,
    limit: Duration,
) -> Result<(ResponseFuture, SendStream<Bytes>), Error> {
    let path = if plan.is_stream() { STREAM } else { UNARY };
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    // Constants, which parse.
    *request.uri_mut() = format!("http://mixed{path}").parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    if !body.is_named() {
        headers.insert("x-model", HeaderValue::from_static("m"));
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{}u", limit.as_micros())) {
        headers.insert("grpc-timeout", value);
    }
    sender.send_request(request, false)
}

impl Talk<'_> {
    async fn run(
        &self,
        (response, stream): (ResponseFuture, SendStream<Bytes>),
        (begun, limit): (Instant, Duration),
        is_left: &Cell<bool>,
    ) -> Outcome {
        let write = async {
            // A failure to write is told by the answer.
            let _ = self.write(stream).await;
            std::future::pending::<()>().await;
        };
        let read = async {
            let mut check = Check::new(self.body);
            match self.read(response, &mut check).await {
                Ok(outcome) => outcome,
                // A status would wait behind what the caller has not taken.
                Err(error) if is_cancelled(&error) && begun.elapsed() >= limit => {
                    Outcome::Failed(DEADLINE_EXCEEDED, "reset within the answer".to_owned())
                }
                Err(error) => failed(&error, is_left),
            }
        };
        tokio::select! {
            outcome = read => outcome,
            () = write => Outcome::Wrong("the end of a future that has none".to_owned()),
        }
    }

    async fn wait_answered(&self, messages: usize) {
        while self.answered.get() < messages {
            self.changed.notified().await;
        }
    }

    async fn write(&self, mut stream: SendStream<Bytes>) -> Result<SendStream<Bytes>, Error> {
        let last = self.body.parts.len() - 1;
        for (number, part) in self.body.parts.iter().enumerate() {
            if self.plan.shape == Shape::Turns {
                self.wait_answered(number).await;
            }
            let pieces = match self.plan.pace {
                Pace::SlowWriter => SLOW_PIECES,
                _ => 1,
            };
            let step = part.len().div_ceil(pieces);
            let mut rest = part.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(step.min(rest.len()));
                let ends = number == last && rest.is_empty();
                send(&mut stream, piece, ends).await?;
                if !rest.is_empty() {
                    sleep(SLOW_PAUSE).await;
                }
            }
        }
        Ok(stream)
    }

    async fn read(
        &self,
        response: ResponseFuture,
        check: &mut Check<'_>,
    ) -> Result<Outcome, Error> {
        let (head, mut body) = response.await?.into_parts();
        let mut pauses = SLOW_PIECES;
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            if let Err(why) = check.take(&chunk) {
                return Ok(Outcome::Wrong(why));
            }
            let whole = check.whole(self.body.parts.len());
            if whole > self.answered.get() {
                self.answered.set(whole);
                self.changed.notify_waiters();
            }
            if self.plan.pace == Pace::SlowReader && pauses > 0 {
                pauses -= 1;
                sleep(SLOW_PAUSE).await;
            }
            body.flow_control().release_capacity(chunk.len())?;
        }
        let trailers = trailers(&mut body).await?;
        Ok(self.outcome(&head.headers, &trailers, check))
    }

    fn outcome(&self, head: &HeaderMap, trailers: &HeaderMap, check: &Check<'_>) -> Outcome {
        let find = |name: &str| {
            let value = trailers.get(name).or_else(|| head.get(name));
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        match find("grpc-status").map(|text| text.parse()) {
            Some(Ok(0)) if check.is_done() => Outcome::Answered(self.body.len()),
            Some(Ok(0)) => Outcome::Wrong(format!(
                "OK with {} of {} messages",
                check.whole(self.body.parts.len()),
                self.body.parts.len()
            )),
            Some(Ok(code)) => Outcome::Failed(code, find("access-error").unwrap_or_default()),
            _ => Outcome::Wrong("no grpc-status".to_owned()),
        }
    }
}

/// Send as the windows allow: h2 would keep all of it.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, ends: bool) -> Result<(), Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Ok(());
        };
        let piece = bytes.split_to(room?.min(bytes.len()));
        let ends = ends && bytes.is_empty();
        stream.send_data(piece, ends)?;
    }
    Ok(())
}

async fn trailers(body: &mut RecvStream) -> Result<HeaderMap, Error> {
    Ok(body.trailers().await?.unwrap_or_default())
}

/// By the other side.
fn is_cancelled(error: &Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::CANCEL)
}

fn failed(error: &Error, is_left: &Cell<bool>) -> Outcome {
    if is_left.get() {
        return Outcome::Left;
    }
    let is_unprocessed = error.reason() == Some(Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR));
    if is_unprocessed {
        return Outcome::Unprocessed;
    }
    Outcome::Wrong(described(error))
}
