//! Open Inference's methods that load and unload models, where the models are the control plane's own: it is asked, and
//! the call waits for what comes of it. MLServer's service has the same messages under another name.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::caller::Who;
use super::local;
use super::method::{Kind, Method};
use super::orders::Action;
use super::worker::Worker;
use crate::call::responder::Responder;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Status;
use crate::headers::Headers;
use crate::local::call::LocalCall;
use crate::local::messages::inference::{
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
};
use crate::local::messages::parse;
use crate::net::stream::Body;

const SERVICES: [&str; 2] = [
    "/inference.GRPCInferenceService/Repository",
    "/inference.model_repository.ModelRepositoryService/Repository",
];
const INDEX: &str = "/inference.GRPCInferenceService/RepositoryIndex";

/// Whether a method is one of these; the standard's index is answered to everybody.
pub fn is_mine(method: &Method) -> bool {
    let mut services = SERVICES.iter();
    method.kind == Kind::Admin && services.any(|service| method.path.starts_with(service))
}

/// Answer one call; return the code that it ended with.
pub async fn serve(
    worker: &Rc<Worker>,
    method: &'static Method,
    (headers, body): (&Headers, Body),
    responder: Responder,
    who: &Who,
) -> Code {
    let started = Instant::now();
    let shared = &worker.shared;
    let idle = Duration::from_millis(shared.config.limits.body_timeout_ms);
    let call = LocalCall::new(headers, body, responder, idle);
    let code = if let Err(error) = who.check(method) {
        shared.server.stats.errors.add(error.kind);
        call.fail(error.into())
    } else if !shared.config.admin_methods {
        let text = format!(
            "{} is not allowed: set admin_methods to allow it",
            method.path
        );
        shared.server.stats.errors.add(ErrorKind::Denied);
        call.fail(Error::new(ErrorKind::Denied, text).into())
    } else if method.path.ends_with("Index") {
        local::answer(worker, INDEX, call, who).await
    } else {
        call.run(async |call| {
            let request = call.only().await?;
            let answer = answer(worker, method.path.ends_with("Unload"), request, who).await?;
            call.send(&answer, Bytes::new()).await
        })
        .await
    };
    shared.unrouted.record(method.id, code, started.elapsed());
    who.count(code);
    code
}

async fn answer(
    worker: &Worker,
    is_unload: bool,
    request: Bytes,
    who: &Who,
) -> Result<Vec<u8>, Status> {
    if is_unload {
        let asked: RepositoryModelUnloadRequest = parse(request)?;
        check_repository(&asked.repository_name)?;
        check(worker, who, &asked.model_name)?;
        order(worker, Action::Unload, &asked.model_name).await?;
        return Ok(RepositoryModelUnloadResponse {}.encode_to_vec());
    }
    let asked: RepositoryModelLoadRequest = parse(request)?;
    check_repository(&asked.repository_name)?;
    if let Some(name) = asked.parameters.keys().min() {
        let text = format!(
            "parameter {name:.100} of a load is not known: what is loaded is the model's folder, change that"
        );
        return Err(Error::new(ErrorKind::BadRequest, text).into());
    }
    check(worker, who, &asked.model_name)?;
    order(worker, Action::Load, &asked.model_name).await?;
    Ok(RepositoryModelLoadResponse {}.encode_to_vec())
}

fn check(worker: &Worker, who: &Who, model: &str) -> Result<(), Status> {
    let Some(identity) = who.known() else {
        return Ok(());
    };
    identity
        .check(Kind::Admin, [Some(model), None], [None, None])
        .map_err(|error| {
            worker.shared.server.stats.errors.add(error.kind);
            error.into()
        })
}

fn check_repository(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Ok(());
    }
    let text =
        format!("there is one repository, without a name: leave repository_name {name:.100} out");
    Err(Error::new(ErrorKind::BadRequest, text).into())
}

async fn order(worker: &Worker, action: Action, model: &str) -> Result<(), Status> {
    let Some(asked) = worker.shared.orders.ask(action, model) else {
        let text = "too many orders wait to load or unload models: try again later";
        return Err(Error::new(ErrorKind::Shed, text).into());
    };
    match asked.await {
        Ok(done) => done.map_err(|(code, text)| Status::answer(code, text)),
        Err(_) => Err(Error::new(ErrorKind::Draining, "draining; try another address").into()),
    }
}
