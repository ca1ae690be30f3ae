use std::sync::Arc;
use std::time::Duration;

use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

use super::*;
use crate::grpc::status::{GRPC_STATUS, parse_grpc_status};
use crate::headers::Headers;
use crate::net::pipe::{Reading, pipe};
use crate::proxy::handle::start;
use crate::proxy::local::local_services;
use crate::proxy::state::tests::shared;

/// Give a call of a method that nobody has.
fn give(runners: &Rc<Runners>, worker: &Rc<Worker>) -> Reading {
    let (writing, reading) = pipe();
    let call = Given {
        worker: worker.clone(),
        who: Who::Anybody,
        head: Head {
            verb: http::Method::POST,
            path: "/nobody.Knows/It".into(),
            headers: Headers::new(),
            is_cut: false,
            is_crowded: false,
        },
        body: Body::ready(bytes::Bytes::new()),
        answer: Answer::piped(writing),
        stream: StreamGuard::lone(),
        web: None,
    };
    start(runners, call);
    reading
}

async fn answered(reading: &Reading) {
    let (_, headers) = reading.head().await.expect("an answer");
    assert!(headers.has(GRPC_STATUS));
    assert_eq!(
        parse_grpc_status(&headers),
        Some(crate::code::Code::Unimplemented)
    );
}

fn worker() -> Rc<Worker> {
    let shared = Arc::new(shared());
    Rc::new(Worker::new(shared.clone(), local_services(&shared)))
}

#[tokio::test]
async fn one_task_serves_one_call_after_the_other() {
    let serve = async {
        let (runners, worker) = (Rc::<Runners>::default(), worker());
        let mut seen = Vec::new();
        for _ in 0..5 {
            answered(&give(&runners, &worker)).await;
            while runners.idle.borrow().is_empty() {
                yield_now().await;
            }
            let idle = runners.idle.borrow();
            assert_eq!(idle.len(), 1);
            seen.push(idle[0].clone());
        }
        assert!(seen.iter().all(|it| Rc::ptr_eq(it, &seen[0])));
        // It holds nothing of the calls that it has served.
        assert_eq!(Rc::strong_count(&worker), 1);
    };
    let limit = Duration::from_secs(20);
    LocalSet::new()
        .run_until(timeout(limit, serve))
        .await
        .unwrap();
}

#[tokio::test]
async fn each_call_at_a_time_has_a_task_and_few_of_those_stay() {
    let serve = async {
        let (runners, worker) = (Rc::<Runners>::default(), worker());
        for _ in 0..2 {
            let calls: Vec<_> = (0..3 * MOST_IDLE)
                .map(|_| give(&runners, &worker))
                .collect();
            assert!(runners.idle.borrow().is_empty());
            for reading in &calls {
                answered(reading).await;
            }
            while Rc::strong_count(&worker) > 1 {
                yield_now().await;
            }
            assert_eq!(runners.idle.borrow().len(), MOST_IDLE);
        }
    };
    let limit = Duration::from_secs(20);
    LocalSet::new()
        .run_until(timeout(limit, serve))
        .await
        .unwrap();
}
