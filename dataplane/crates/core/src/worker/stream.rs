//! ModelStreamInfer in Triton's form: each message is a call of its own to the model, an error belongs to its
//! message, and answers come in the order of the requests.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::request::Parts;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::codec::oip::{InferEnvelope, encode_stream_error};
use super::handle::{Ended, Front, InFlight, STREAM};
use super::inference::{self, Inference};
use super::message::{Budget, Held, ReadError, inflate};
use super::reply::{Envelope, Failure, Reply, Waiting};
use super::responder::{Responder, send_all};
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames};
use crate::net::drain::Phase;

/// Messages of one stream that may wait for the model: as many as a batch has by default. Beyond it nothing
/// is read, and the caller's window closes.
const MAX_WAITING: usize = 64;

/// Answers are joined up to this size: HTTP/2's frame size when nothing else was agreed.
const MAX_JOINED: usize = 16 * 1024;

/// A message on its way through the model.
struct Pending<'a> {
    started: Instant,
    deadline: Instant,
    envelope: InferEnvelope,
    reply: Result<Waiting, Failure>,
    _held: Held,
    _in_flight: InFlight<'a>,
}

/// The messages of a request, whole and inflated. Bytes are counted against the process's budget as they are
/// worked on, and the caller's window opens as they are.
struct Reader<'a> {
    headers: &'a HeaderMap,
    body: RecvStream,
    frames: Frames,
    max_message_bytes: usize,
    budget: Arc<Budget>,
    held: Held,
    /// What is left of the last chunk, and how long it was.
    chunk: Bytes,
    chunk_length: usize,
    /// Bytes behind the chunk that came while nothing could be done with them, at most a stream's window.
    backlog: BytesMut,
    has_ended: bool,
    message: Vec<u8>,
    is_compressed: bool,
}

/// What [`Reader::read`] came by.
enum Read {
    Message(Bytes, Held),
    /// Bytes for later.
    More,
    End,
}

/// Serve one stream to its end.
pub(super) async fn serve(
    front: &Front,
    head: &Parts,
    body: RecvStream,
    mut responder: Responder,
) -> Ended {
    let started = Instant::now();
    let deadline = match front.check_call(head) {
        Ok(asked) => asked.map(|asked| started + asked),
        Err(failure) => {
            front.record(STREAM, Err(&failure), started);
            responder.fail(&failure);
            return Ended::Answered;
        }
    };
    // Some callers wait for the headers before they send.
    let Some(mut out) = responder.begin() else {
        responder.abandon();
        return Ended::Cancelled;
    };
    let reader = Reader::new(front, &head.headers, body);
    let ended = run(front, reader, &mut out, &responder, deadline).await;
    match ended {
        Ok(()) => drop(responder.finish(out, None)),
        Err(ReadError::Cancelled) => responder.abandon(),
        Err(ReadError::Failed(failure)) => {
            front.record(STREAM, Err(&failure), started);
            responder.finish(out, Some(&failure));
        }
    }
    Ended::Answered
}

/// Read, wait and answer until the caller has no more, or something ends the stream; what the model has by
/// then is still answered.
async fn run(
    front: &Front,
    mut reader: Reader<'_>,
    out: &mut SendStream<Bytes>,
    responder: &Responder,
    deadline: Option<Instant>,
) -> Result<(), ReadError> {
    let mut waiting: VecDeque<Pending<'_>> = VecDeque::new();
    let mut drain = front.shared.drain.watch();
    let mut is_open = true;
    let mut ended: Result<(), Failure> = Ok(());
    let idle = Duration::from_millis(front.shared.config.stream_idle_timeout_ms);
    let mut idle_at = Instant::now() + idle;
    while is_open || !waiting.is_empty() {
        let is_idle = waiting.is_empty();
        let can_read = is_open && waiting.len() < MAX_WAITING;
        tokio::select! {
            reply = next_reply(&mut waiting) => {
                let answers = join_ready(front, &mut waiting, reply, responder).await?;
                let limit = Instant::now() + idle;
                let limit = deadline.map_or(limit, |end| end.min(limit));
                let Ok(sent) = timeout_at(limit, send(out, answers, &mut reader)).await else {
                    // A part of a message may be out: no status can follow it.
                    out.send_reset(Reason::CANCEL);
                    return Err(late("the stream's answers were not read in time").into());
                };
                sent?;
                idle_at = Instant::now() + idle;
            }
            read = reader.read(can_read), if is_open => match read {
                Ok(Read::Message(message, held)) => {
                    waiting.push_back(submit(front, message, held, responder, deadline));
                    idle_at = Instant::now() + idle;
                }
                Ok(Read::More) => {}
                Ok(Read::End) => is_open = false,
                Err(ReadError::Failed(failure)) => (is_open, ended) = (false, Err(failure)),
                Err(cancelled) => return Err(cancelled),
            },
            () = drain.reached(Phase::Draining), if is_open => {
                let text = "the model server is stopping: go on with another one";
                (is_open, ended) = (false, Err(Error::new(ErrorKind::Draining, text).into()));
            }
            () = sleep_until(idle_at), if is_idle => {
                let ms = idle.as_millis();
                return Err(late(format!("no message for {ms} ms (stream_idle_timeout_ms)")).into());
            }
            () = at(deadline) => return Err(late("the stream's deadline passed").into()),
            _ = poll_fn(|cx| out.poll_reset(cx)) => return Err(ReadError::Cancelled),
        }
    }
    ended.map_err(ReadError::Failed)
}

/// Join the first answer with those behind it that are ready, too: one frame for many small ones.
async fn join_ready(
    front: &Front,
    waiting: &mut VecDeque<Pending<'_>>,
    first: Reply,
    responder: &Responder,
) -> Result<Bytes, Error> {
    let mut joined = BytesMut::new();
    let mut reply = first;
    while let Some(done) = waiting.pop_front() {
        let message = finish(front, &done, reply, responder)?;
        if joined.is_empty() && (waiting.is_empty() || message.len() >= MAX_JOINED) {
            return Ok(message);
        }
        joined.extend_from_slice(&message);
        if joined.len() >= MAX_JOINED {
            break;
        }
        reply = tokio::select! {
            biased;
            reply = next_reply(waiting) => reply,
            () = ready(()) => break,
        };
    }
    Ok(joined.freeze())
}

/// Send answers, and meanwhile take what comes out of h2's hands.
async fn send(
    out: &mut SendStream<Bytes>,
    answers: Bytes,
    reader: &mut Reader<'_>,
) -> Result<(), ReadError> {
    let mut sent = pin!(send_all(out, answers));
    loop {
        tokio::select! {
            sent = &mut sent => return sent.map_err(|_| ReadError::Cancelled),
            read = reader.read(false) => drop(read?),
        }
    }
}

/// Put one message into the model's queue; whatever keeps it out is its answer.
fn submit<'a>(
    front: &'a Front,
    message: Bytes,
    held: Held,
    responder: &Responder,
    deadline: Option<Instant>,
) -> Pending<'a> {
    let started = Instant::now();
    let limit = started + Duration::from_millis(front.shared.config.timeout_ms);
    let deadline = deadline.map_or(limit, |end| end.min(limit));
    let in_flight = front.enter();
    let Inference { envelope, request } = inference::decode(&front.shared, &message, true);
    let reply = front.check_load().and(request).and_then(|(payload, meta)| {
        let envelope = Envelope::Infer(envelope.clone());
        let id = responder.request_id().clone();
        front.submit(STREAM, payload, meta, envelope, deadline, id)
    });
    Pending {
        started,
        deadline,
        envelope,
        reply,
        _held: held,
        _in_flight: in_flight,
    }
}

/// The answer to the oldest message; never where there is none. May be dropped and called again.
async fn next_reply(waiting: &mut VecDeque<Pending<'_>>) -> Reply {
    let Some(first) = waiting.front_mut() else {
        return pending().await;
    };
    match &mut first.reply {
        Err(failure) => Err(failure.clone()),
        Ok(reply) => timeout_at(first.deadline, reply.reply())
            .await
            .unwrap_or_else(|_| Err(Failure::expired())),
    }
}

/// Count a message that is done with, and return what the caller gets for it.
fn finish(
    front: &Front,
    done: &Pending<'_>,
    reply: Reply,
    responder: &Responder,
) -> Result<Bytes, Error> {
    front.record(STREAM, reply.as_ref().map(|_| ()), done.started);
    match reply {
        Ok(message) => Ok(message),
        Err(failure) => encode_stream_error(&responder.text(&failure), &done.envelope),
    }
}

fn late(text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, text)
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn new(front: &Front, headers: &'a HeaderMap, body: RecvStream) -> Self {
        let max_message_bytes = front.shared.config.limits.max_message_bytes;
        Self {
            headers,
            body,
            frames: Frames::new(max_message_bytes),
            max_message_bytes,
            budget: front.shared.budget.clone(),
            held: front.shared.budget.hold(),
            chunk: Bytes::new(),
            chunk_length: 0,
            backlog: BytesMut::new(),
            has_ended: false,
            message: Vec::new(),
            is_compressed: false,
        }
    }

    /// The next message and its share of the budget, where there is room for one; else, without end, whatever
    /// comes, for later. May be dropped and called again.
    ///
    /// Not to read at all would leave the caller's frames to h2, which ends a connection, with every call on
    /// it, where too many small ones lie unread.
    async fn read(&mut self, has_room: bool) -> Result<Read, ReadError> {
        if !has_room && self.has_ended {
            return pending().await;
        }
        if !has_room {
            if let Some(chunk) = self.data().await? {
                self.backlog.extend_from_slice(&chunk);
            }
            return Ok(Read::More);
        }
        loop {
            if let Some((message, held)) = self.take_from_chunk()? {
                return Ok(Read::Message(message, held));
            }
            // Fails only when the stream is gone, which the next read tells.
            let _ = self.body.flow_control().release_capacity(self.chunk_length);
            self.chunk_length = 0;
            let chunk = match self.backlog.is_empty() {
                true => self.data().await?,
                false => Some(self.backlog.split().freeze()),
            };
            match chunk {
                Some(chunk) => (self.chunk_length, self.chunk) = (chunk.len(), chunk),
                None if self.frames.incomplete() => {
                    let text = "the request ended inside a message";
                    return Err(Error::new(ErrorKind::BadRequest, text).into());
                }
                None => return Ok(Read::End),
            }
        }
    }

    async fn data(&mut self) -> Result<Option<Bytes>, ReadError> {
        let chunk = self.body.data().await;
        self.has_ended |= chunk.is_none();
        chunk.transpose().map_err(|_| ReadError::Cancelled)
    }

    /// Walk over what is left of the chunk, up to the end of a message.
    fn take_from_chunk(&mut self) -> Result<Option<(Bytes, Held)>, ReadError> {
        loop {
            let mut rest: &[u8] = &self.chunk;
            let event = self.frames.next(&mut rest)?;
            let used = self.chunk.len() - rest.len();
            match event {
                Some(Event::Start { compressed, .. }) => self.is_compressed = compressed,
                Some(Event::Data(data)) => {
                    self.held.grow(data.len())?;
                    self.message.extend_from_slice(data);
                }
                Some(Event::End) => {
                    self.chunk.advance(used);
                    return self.finish_message().map(Some);
                }
                None => {
                    self.chunk.clear();
                    return Ok(None);
                }
            }
            self.chunk.advance(used);
        }
    }

    fn finish_message(&mut self) -> Result<(Bytes, Held), ReadError> {
        let mut held = std::mem::replace(&mut self.held, self.budget.hold());
        let mut message: Bytes = std::mem::take(&mut self.message).into();
        if self.is_compressed {
            message = inflate(self.headers, &message, self.max_message_bytes)?;
            held.grow(message.len())?;
        }
        Ok((message, held))
    }
}
