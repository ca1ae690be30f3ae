//! AtServing's batch: several calls in one request, a few at a time, each with its own answer or error, in their order.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::grpc::deadline::{GRPC_TIMEOUT, parse_timeout, put_timeout};
use crate::grpc::metadata::RequestId;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::atserving::eval::{self, Draft};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::Model;
use crate::rest::tensors::json::{Reader, bad};
use crate::rest::tensors::result::Said;
use crate::rest::uris::Uris;
use crate::rest::web::path::parts;
use crate::rest::web::reply::{Failed, Reply};

/// Calls of one batch that run at a time.
const PARALLEL: usize = 16;
/// Calls of one batch: a short request shall not become work without end.
const MAX_CALLS: usize = 1024;

/// Answer each call of a batch.
///
/// # Errors
/// `bad_request`: it is no array of calls, or has too many.
pub async fn reply<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    uris: &Arc<Uris>,
    body: &[u8],
    request_id: &RequestId,
) -> Result<Reply, Failed> {
    let calls = read(body)?;
    let timeout = caller
        .metadata
        .get(GRPC_TIMEOUT)
        .map(parse_timeout)
        .transpose()?;
    let ends = timeout.map(|timeout| Instant::now() + timeout);
    let room = Cell::new(caller.max_message_bytes);
    let answers = in_lanes(calls.len(), async |index| {
        let answered = match remaining(caller, ends) {
            Ok(caller) => answer(&caller, uris, calls[index], &room).await,
            Err(error) => Err(error.into()),
        };
        answered.unwrap_or_else(|failed| {
            eval::problem(&failed, request_id)
                .1
                .to_string()
                .into_bytes()
        })
    });
    let mut json = b"[".to_vec();
    for (index, answer) in answers.await.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(&answer);
    }
    json.push(b']');
    Ok(Reply::of(json.into()))
}

/// The text of each call: what is wrong with one is its own error.
fn read(body: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut calls = Vec::new();
    let mut reader = Reader::new(body);
    reader.array(|reader| {
        let place = reader.place();
        reader.skip()?;
        calls.push(reader.text_from(place));
        if calls.len() > MAX_CALLS {
            return Err(bad(format!(
                "a batch has more than {MAX_CALLS} calls: send several batches"
            )));
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(calls)
}

/// A caller with the time that is left.
fn remaining<F>(caller: &Caller<F>, ends: Option<Instant>) -> Result<Caller<&F>, Error> {
    let mut metadata = caller.metadata.clone();
    if let Some(ends) = ends {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = "the time of the batch was over before this call's turn";
            return Err(Error::new(ErrorKind::DeadlineExceeded, text));
        }
        put_timeout(&mut metadata, left);
    }
    Ok(Caller {
        metadata,
        max_message_bytes: caller.max_message_bytes,
        start: &caller.start,
        known: caller.known.clone(),
    })
}

/// Answer one call; what all answers hold together must fit into `room`.
async fn answer<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    uris: &Arc<Uris>,
    call: &[u8],
    room: &Cell<usize>,
) -> Result<Vec<u8>, Failed> {
    let (model, version) = addressed(call)?;
    let question = Draft::of_json(call)?.fetched(uris).await?;
    let model = Model {
        name: &model,
        version: &version,
        label: "",
    };
    let outputs = question.ask(caller, &model).await?;
    let answer = eval::success(Said::of(&outputs)?);
    let left = room.get().checked_sub(answer.len()).ok_or_else(|| {
        let limit = caller.max_message_bytes;
        let text = format!("the answers of a batch are over the limit of {limit} bytes (max_message_bytes) together");
        Error::new(ErrorKind::MessageTooLarge, text)
    })?;
    room.set(left);
    Ok(answer)
}

/// Model and version that a call's `op` names.
fn addressed(call: &[u8]) -> Result<(String, String), Failed> {
    let mut op = None;
    let mut reader = Reader::new(call);
    reader.object(|reader, key| match key {
        "op" => {
            op = Some(reader.string()?.into_owned());
            Ok(())
        }
        _ => reader.skip(),
    })?;
    let op = op.ok_or_else(|| bad("a call has an op: \"/v1/eval/NAME\"".to_owned()))?;
    let parts = parts(&op).unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(|it| &**it).collect();
    let found = match parts[..] {
        ["v1", "eval", ref parts @ ..] => eval::target(parts),
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => {
            let shown = crate::call::head::shortened(&op);
            Err(bad(format!("the op {shown:?} is not /v1/eval/NAME[/VERSION]")).into())
        }
    }
}

/// Run a task for each number, a few at a time; what each gave, in their order.
async fn in_lanes<T>(count: usize, task: impl AsyncFn(usize) -> T) -> Vec<T> {
    let next = Cell::new(0);
    let done: RefCell<Vec<Option<T>>> = RefCell::new((0..count).map(|_| None).collect());
    let lane = async || {
        loop {
            let index = next.get();
            if index >= count {
                break;
            }
            next.set(index + 1);
            let value = task(index).await;
            done.borrow_mut()[index] = Some(value);
        }
    };
    let mut lanes: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for _ in 0..count.min(PARALLEL) {
        lanes.push(Box::pin(lane()));
    }
    poll_fn(|cx| {
        lanes.retain_mut(|lane| lane.as_mut().poll(cx).is_pending());
        if lanes.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    drop(lanes);
    done.into_inner().into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_run_a_few_at_a_time_and_keep_their_order() {
        let running = Cell::new(0);
        let most = Cell::new(0);
        let began = Instant::now();
        let found = in_lanes(100, async |index| {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            // The first of all takes longest, and holds up nobody.
            let seconds = if index == 0 { 6 } else { 1 };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            running.set(running.get() - 1);
            index
        });
        assert_eq!(found.await, (0..100).collect::<Vec<_>>());
        assert_eq!(most.get(), PARALLEL);
        assert_eq!(began.elapsed().as_secs(), 7);
    }

    #[test]
    fn a_batch_is_an_array_of_some_calls() {
        assert_eq!(
            read(b" [{} , 1, \"a\"] ").unwrap(),
            [&b"{}"[..], b"1", b"\"a\""]
        );
        for (body, expected) in [
            (&b"{}"[..], "expected an array"),
            (b"[{}", "the body ends"),
            (b"[{}]x", "expected the end"),
            (b"[{\"op\":1,\"op\":2}]", "appears twice"),
            (b"", "the body ends"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.message.contains(expected), "{error:?}");
        }
        let many = format!("[{}1]", "1,".repeat(MAX_CALLS));
        assert!(
            read(many.as_bytes())
                .unwrap_err()
                .message
                .contains("more than 1024 calls")
        );
        assert_eq!(
            read(&many.as_bytes()[2..]).unwrap_err().kind,
            ErrorKind::BadRequest
        );
        let most = format!("[{}1]", "1,".repeat(MAX_CALLS - 1));
        assert_eq!(read(most.as_bytes()).unwrap().len(), MAX_CALLS);
    }

    #[test]
    fn a_call_names_its_model_and_version_by_a_path() {
        let found = |call: &str| match addressed(call.as_bytes()) {
            Ok((model, version)) => format!("{model} {version}"),
            Err(failed) => failed.text,
        };
        assert_eq!(found(r#"{"op": "/v1/eval/m"}"#), "m ");
        assert_eq!(found(r#"{"data": 1, "op": "/v1/eval/a%20b/3"}"#), "a b 3");
        for call in [
            r#"{"op": "/v1/batch"}"#,
            r#"{"op": "/v1/eval"}"#,
            r#"{"op": "m"}"#,
            r#"{"op": "/v2/models/m/infer"}"#,
        ] {
            assert!(
                found(call).ends_with("is not /v1/eval/NAME[/VERSION]"),
                "{}",
                found(call)
            );
        }
        assert_eq!(found("{}"), "a call has an op: \"/v1/eval/NAME\"");
        assert!(found("[]").contains("expected an object"));
        assert!(found(r#"{"op": 1}"#).contains("expected a string"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_the_time_that_is_left_of_the_batchs() {
        let mut caller = Caller {
            metadata: crate::headers::Headers::new(),
            max_message_bytes: 1,
            start: |_: Head, _: Body, _: Answer| {},
            known: std::rc::Rc::default(),
        };
        assert!(remaining(&caller, None).unwrap().metadata.is_empty());
        caller.metadata.push(GRPC_TIMEOUT, "5S");
        let ends = Instant::now() + Duration::from_secs(5);
        tokio::time::advance(Duration::from_millis(4500)).await;
        let left = remaining(&caller, Some(ends)).unwrap().metadata;
        let left = left.get(GRPC_TIMEOUT).unwrap();
        assert_eq!(parse_timeout(left).unwrap(), Duration::from_millis(500));
        tokio::time::advance(Duration::from_millis(500)).await;
        let error = remaining(&caller, Some(ends)).err().unwrap();
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    }

    #[test]
    fn a_broken_document_breaks_nothing() {
        let documents = [
            r#"[{"op": "/v1/eval/a%20b/3", "data": {"uri": "data:,a"}}, {"op": "/v1/eval/m", "data": [1]}]"#,
            "[]",
        ];
        let mut read_calls = 0;
        crate::testing::broken_documents(52, &documents, |document| {
            for call in read(document).unwrap_or_default() {
                read_calls += 1;
                let _ = addressed(call);
            }
        });
        assert!(read_calls > 1000, "{read_calls} calls");
    }
}
