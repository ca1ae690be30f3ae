//! Models that some endpoints of a cluster have and one does not, or not yet: a call that meets such an endpoint is sent
//! to another, and the endpoint is asked for the model's state until it has it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ask::ask;
use super::call::Call;
use super::cluster::{Endpoint, Share};
use super::health::Source;
use super::method::{Kind, Protocol, Streaming};
use super::pool::Upstream;
use super::route_key::RouteKey;
use crate::code::Code;
use crate::local::health::Serving;
use crate::local::messages::health::{HealthCheckRequest, HealthCheckResponse};
use crate::local::messages::inference::{ModelReadyRequest, ModelReadyResponse};
use crate::local::messages::tensorflow::serving::{ModelSpec, model_spec::VersionChoice};
use crate::local::model_status::{self, GetModelStatusRequest, GetModelStatusResponse, State};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// An answer is not waited for longer.
const LIMIT: Duration = Duration::from_secs(1);
/// So long an endpoint counts as loading that cannot be asked, and so long one is not asked again that has no such
/// model.
const UNSAID: Duration = Duration::from_secs(5);
/// A model that takes longer to load than this will not come: the endpoint gets its share again, as other models of it
/// need it, and is left alone for a while.
const LONGEST: Duration = Duration::from_secs(600);

/// What an endpoint says of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Ready,
    Loading,
    /// It neither has it nor loads it.
    Absent,
    /// It cannot be asked.
    Nothing,
}

// === impl Call ===

impl Call {
    /// Whether an endpoint that answered so may only not have the model yet: another one has answered for it lately.
    pub fn may_be_loading(&self, code: Code, to: &Share) -> bool {
        matches!(code, Code::NotFound | Code::FailedPrecondition)
            && self.is_for_a_model()
            && to
                .cluster
                .loaded
                .has(&self.record.key, std::time::Instant::now())
    }

    /// An endpoint has answered the call. One that did not have the model before is asked when it will.
    pub fn model_answered(&mut self, share: &Share, at: Instant) {
        if !self.is_for_a_model() {
            return;
        }
        share.cluster.loaded.note(&self.record.key, at.into_std());
        if let Some(endpoint) = self.lacking.take()
            && let Some(upstream) = self.worker.upstream(&endpoint.address)
            && endpoint.health.begin_asking()
        {
            endpoint.set_loading(true, Source::Call);
            let (key, protocol) = (self.record.key.clone(), self.method.protocol);
            // Ends by itself; the worker's LocalSet owns it.
            tokio::task::spawn_local(follow(endpoint, upstream, key, protocol));
        }
    }

    fn is_for_a_model(&self) -> bool {
        self.method.kind == Kind::Predict && self.method.streaming != Streaming::Bidi
    }
}

/// Ask for a model until the endpoint has it, says that it will not, or takes too long.
async fn follow(
    endpoint: Arc<Endpoint>,
    upstream: Rc<Upstream>,
    key: RouteKey,
    protocol: Protocol,
) {
    let end = Instant::now() + LONGEST;
    let source = source(protocol);
    let (source, pause) = loop {
        match state_of(&upstream, &key, protocol).await {
            Told::Loading if Instant::now() < end => {
                endpoint.set_loading(true, source);
                sleep(PAUSE).await;
            }
            Told::Loading => break (Source::Time, LONGEST),
            Told::Absent => break (source, UNSAID),
            Told::Ready => break (source, Duration::ZERO),
            Told::Nothing => {
                sleep(UNSAID).await;
                break (Source::Time, Duration::ZERO);
            }
        }
    };
    endpoint.set_loading(false, source);
    sleep(pause).await;
    endpoint.health.end_asking();
}

async fn state_of(upstream: &Rc<Upstream>, key: &RouteKey, protocol: Protocol) -> Told {
    match protocol {
        Protocol::Tfs | Protocol::None => tensorflow(upstream, key).await,
        Protocol::Oip => oip(upstream, key).await,
        Protocol::Seldon => seldon(upstream, key).await,
    }
}

/// What [`state_of`] asks.
fn source(protocol: Protocol) -> Source {
    match protocol {
        Protocol::Tfs | Protocol::None => Source::ModelStatus,
        Protocol::Oip => Source::ModelReady,
        Protocol::Seldon => Source::HealthCheck,
    }
}

async fn tensorflow(upstream: &Rc<Upstream>, key: &RouteKey) -> Told {
    let version = key.version.as_deref().and_then(|text| text.parse().ok());
    let request = GetModelStatusRequest {
        model_spec: Some(ModelSpec {
            name: key.model.clone().unwrap_or_default(),
            version_choice: version.map(VersionChoice::Version),
            ..ModelSpec::default()
        }),
    };
    let answer = ask(upstream, model_status::PATH, &request, LIMIT).await;
    let answer: GetModelStatusResponse = match answer {
        Ok(answer) => answer,
        Err(code) => return refused(code),
    };
    let states = answer.model_version_status.iter();
    let mut told = Told::Absent;
    for state in states.filter_map(|each| State::try_from(each.state).ok()) {
        match state {
            State::Available => return Told::Ready,
            State::Start | State::Loading | State::Unloading => told = Told::Loading,
            State::Unknown | State::End => {}
        }
    }
    told
}

async fn oip(upstream: &Rc<Upstream>, key: &RouteKey) -> Told {
    let request = ModelReadyRequest {
        name: key.model.clone().unwrap_or_default(),
        version: key.version.clone().unwrap_or_default(),
    };
    let answer: Result<ModelReadyResponse, Code> =
        ask(upstream, MODEL_READY, &request, LIMIT).await;
    match answer {
        Ok(answer) if answer.ready => Told::Ready,
        Ok(_) => Told::Loading,
        Err(code) => refused(code),
    }
}

/// As our model servers say it.
async fn seldon(upstream: &Rc<Upstream>, key: &RouteKey) -> Told {
    let request = HealthCheckRequest {
        service: key.model.clone().unwrap_or_default(),
    };
    let answer: Result<HealthCheckResponse, Code> = ask(upstream, CHECK, &request, LIMIT).await;
    match answer.map(|answer| Serving::try_from(answer.status)) {
        Ok(Ok(Serving::Serving)) => Told::Ready,
        Ok(_) => Told::Loading,
        Err(code) => refused(code),
    }
}

fn refused(code: Code) -> Told {
    match code {
        Code::NotFound => Told::Absent,
        _ => Told::Nothing,
    }
}
