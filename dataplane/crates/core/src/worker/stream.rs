//! ModelStreamInfer in Triton's form: each message is a call of its own to the model, an error belongs to its
//! message, and answers come in the order of the requests.

use std::collections::VecDeque;
use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::codec::oip::{InferEnvelope, StreamFault, encode_stream_error};
use super::front::{Front, Request};
use super::infer::{self, Inference};
use super::method::Method;
use super::reply::{Envelope, Reply, Times, Waiting, expired};
use super::trace::Trace;
use crate::call::limit::{Held, Permit};
use crate::call::messages::{Message, Messages};
use crate::call::responder::{Responder, text};
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{self, Priority, RequestId};
use crate::grpc::status::Status;
use crate::net::drain::Phase;
use crate::net::guard::StreamGuard;
use crate::net::stream::{Body, Head, Sender};

const STREAM: Option<Method> = Some(Method::StreamInfer);

/// Messages of one stream that may wait for the model: as many as a batch has by default. Beyond it nothing
/// is read, and the caller's window closes.
const MAX_WAITING: usize = 64;

/// Answers are joined up to this size: HTTP/2's frame size when nothing else was agreed.
const MAX_JOINED: usize = 16 * 1024;

/// A message on its way through the model.
struct Pending {
    started: Instant,
    deadline: Instant,
    envelope: InferEnvelope,
    reply: Result<(Waiting, Permit), Status>,
    _held: Held,
}

/// One stream, while it is served.
struct Stream<'a> {
    front: &'a Front,
    messages: Messages,
    request_id: RequestId,
    priority: Priority,
    /// The caller's own.
    deadline: Option<Instant>,
    /// Longest time without a message.
    idle: Duration,
    waiting: VecDeque<Pending>,
    trace: Option<Box<Trace>>,
}

/// What [`read`] came by.
enum Read {
    Message(Message),
    /// Bytes for later.
    More,
    End,
}

/// Serve one stream to its end.
pub async fn serve(
    front: &Front,
    head: &Head,
    body: Body,
    mut responder: Responder,
    guard: &StreamGuard,
    trace: Option<Box<Trace>>,
) {
    let started = Instant::now();
    let asked = match front.check_call(head) {
        Ok(asked) => asked,
        Err(error) => {
            let status = error.into();
            front.record(STREAM, Err(&status), started);
            return responder.fail(&status);
        }
    };
    // Some callers wait for the headers before they send.
    let Ok(mut out) = responder.begin() else {
        return guard.reset_before_headers();
    };
    let mut stream = Stream {
        front,
        messages: front.messages(&head.headers, body),
        request_id: *responder.request_id(),
        priority: metadata::priority(&head.headers),
        deadline: asked.map(|asked| started + asked),
        idle: Duration::from_millis(front.shared.config.stream_idle_timeout_ms),
        waiting: VecDeque::new(),
        trace,
    };
    let ended = stream.run(&mut out).await;
    if let Some(trace) = stream.trace.take() {
        let code = ended.as_ref().err().map_or(Code::Ok, |status| status.code);
        trace.export(Method::StreamInfer, code);
    }
    front.tell_load(&mut responder, Times::default());
    match ended {
        Ok(()) => drop(responder.finish(&mut out, None)),
        // Dropping the sender resets what is left.
        Err(status) if status.is_gone() => {}
        Err(status) => {
            front.record(STREAM, Err(&status), started);
            responder.finish(&mut out, Some(&status));
        }
    }
}

// === impl Stream ===

impl Stream<'_> {
    /// Read, wait and answer until the caller has no more, or something ends the stream; what the model has by
    /// then is still answered.
    async fn run(&mut self, out: &mut Sender) -> Result<(), Status> {
        let mut drain = self.front.shared.server.drain.watch();
        let mut is_open = true;
        let mut ended: Result<(), Status> = Ok(());
        let idle = self.idle;
        let mut idle_at = Instant::now() + idle;
        while is_open || !self.waiting.is_empty() {
            let is_idle = self.waiting.is_empty();
            let can_read = is_open && self.waiting.len() < MAX_WAITING;
            tokio::select! {
                reply = next_reply(&mut self.waiting) => {
                    self.answer(reply, out).await?;
                    idle_at = Instant::now() + idle;
                }
                read = read(&mut self.messages, can_read), if is_open => match read {
                    Ok(Read::Message(message)) => {
                        self.submit(message);
                        idle_at = Instant::now() + idle;
                    }
                    Ok(Read::More) => {}
                    Ok(Read::End) => is_open = false,
                    Err(status) if status.is_gone() => return Err(status),
                    Err(status) => (is_open, ended) = (false, Err(status)),
                },
                () = drain.reached(Phase::Draining), if is_open => {
                    let text = "the model server is stopping: go on with another one";
                    (is_open, ended) = (false, Err(Error::new(ErrorKind::Draining, text).into()));
                }
                () = sleep_until(idle_at), if is_idle => {
                    let ms = idle.as_millis();
                    return Err(Status::late(format!("no message for {ms} ms (stream_idle_timeout_ms)")));
                }
                () = sleep_until(self.deadline.unwrap_or(idle_at)), if self.deadline.is_some() => return Err(Status::late("the stream's deadline passed")),
                () = poll_fn(|cx| out.poll_reset(cx)) => return Err(Status::gone()),
            }
        }
        ended
    }

    /// Send the first answer, with those behind it that are ready, too, and meanwhile take what comes out of the HTTP/2
    /// library's hands.
    async fn answer(&mut self, first: Reply, out: &mut Sender) -> Result<(), Status> {
        let answers = self.join_ready(first).await?;
        let limit = Instant::now() + self.idle;
        let limit = self.deadline.map_or(limit, |end| end.min(limit));
        let sent = timeout_at(limit, send(out, answers, &mut self.messages)).await;
        sent.unwrap_or_else(|_| {
            // A part of a message may be out: no status can follow it.
            out.reset();
            Err(Status::late("the stream's answers were not read in time"))
        })
    }

    /// Join the first answer with those behind it that are ready, too: one frame for many small ones.
    async fn join_ready(&mut self, first: Reply) -> Result<Bytes, Error> {
        let mut joined = BytesMut::new();
        let mut reply = first;
        while let Some(done) = self.waiting.pop_front() {
            let message = self.finish(&done, reply)?;
            if joined.is_empty() && (self.waiting.is_empty() || message.len() >= MAX_JOINED) {
                return Ok(message);
            }
            joined.extend_from_slice(&message);
            if joined.len() >= MAX_JOINED {
                break;
            }
            reply = tokio::select! {
                biased;
                reply = next_reply(&mut self.waiting) => reply,
                () = ready(()) => break,
            };
        }
        Ok(joined.freeze())
    }

    /// Put one message into the model's queue; whatever keeps it out is its answer.
    fn submit(&mut self, message: Message) {
        let (front, started) = (self.front, Instant::now());
        let limit = started + Duration::from_millis(front.shared.config.timeout_ms);
        let deadline = self.deadline.map_or(limit, |end| end.min(limit));
        let Inference { envelope, request } = infer::decode(&front.shared, &message.bytes, true);
        let submitted = front.enter().and_then(|permit| {
            let (payload, meta) = request?;
            let request = Request {
                payload,
                meta,
                envelope: Envelope::Infer(envelope.clone()),
                fingerprint: front.fingerprint(Method::StreamInfer, &message.bytes),
            };
            let id = self.request_id;
            let waiting =
                front.submit(Method::StreamInfer, request, deadline, id, self.priority)?;
            Ok((waiting, permit))
        });
        self.waiting.push_back(Pending {
            started,
            deadline,
            envelope,
            reply: submitted.map_err(Status::from),
            _held: message.held,
        });
    }

    /// Count a message that is done with, and return what the caller gets for it.
    fn finish(&mut self, done: &Pending, reply: Reply) -> Result<Bytes, Error> {
        if let (Some(trace), Ok((waiting, _))) = (&mut self.trace, &done.reply) {
            trace.answered(done.started.into_std(), waiting.times());
        }
        let ended = reply.as_ref().map(|_| ());
        self.front.record(STREAM, ended, done.started);
        match reply {
            Ok(message) => Ok(message),
            Err(status) => {
                let fault = StreamFault {
                    message: &text(&status, &self.request_id),
                    code: status.code,
                    kind: status.kind,
                    number: status.number,
                };
                encode_stream_error(fault, &done.envelope)
            }
        }
    }
}

/// The next message, where there is room for one; else whatever comes, for later.
async fn read(messages: &mut Messages, has_room: bool) -> Result<Read, Status> {
    if has_room {
        let next = messages.next().await?;
        return Ok(next.map_or(Read::End, Read::Message));
    }
    messages.stash().await?;
    Ok(Read::More)
}

/// Send answers, and meanwhile take what comes.
async fn send(out: &mut Sender, answers: Bytes, messages: &mut Messages) -> Result<(), Status> {
    let mut sent = pin!(out.send_all(answers));
    loop {
        tokio::select! {
            sent = &mut sent => return sent.map_err(|_| Status::gone()),
            read = messages.stash() => read?,
        }
    }
}

/// The answer to the oldest message; never where there is none. May be dropped and called again.
async fn next_reply(waiting: &mut VecDeque<Pending>) -> Reply {
    let Some(first) = waiting.front_mut() else {
        return pending().await;
    };
    match &mut first.reply {
        Err(status) => Err(status.clone()),
        Ok((reply, _)) => timeout_at(first.deadline, reply.reply())
            .await
            .unwrap_or_else(|_| Err(expired())),
    }
}
