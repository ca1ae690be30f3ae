//! Local methods over HTTP/2: health and reflection, and what others need to answer a unary method
//! themselves ([`LocalCall::unary`]). Used by the access service and by the model-server front.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::health::{self, HealthSource, Watch};
use super::reflection::Reflection;
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Code;

mod call;
mod messages;

pub use call::{LocalCall, Status};

/// Largest request of a local method, bytes; names are all that is in them.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Full names of the services that [`serve_local`] answers.
pub const SERVICES: [&str; 3] = [
    health::SERVICE,
    super::reflection::SERVICES[0],
    super::reflection::SERVICES[1],
];

/// What local methods answer from.
pub struct LocalServices {
    pub health: Arc<dyn HealthSource>,
    pub reflection: Arc<Reflection>,
}

/// Answer a call of one of [`SERVICES`]; any other path is UNIMPLEMENTED. Returns the code that the caller
/// got, for the metrics. Streams end with UNAVAILABLE when the process drains.
pub async fn serve_local(path: &str, call: LocalCall, local: &LocalServices) -> Code {
    let health = &*local.health;
    match path {
        "/grpc.health.v1.Health/Check" => call.unary(|request| check(health, &request)).await,
        "/grpc.health.v1.Health/List" => call.unary(|_| Ok(health::list(health))).await,
        "/grpc.health.v1.Health/Watch" => call.run(async |call| watch(health, call).await).await,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
            call.run(async |call| reflect(&local.reflection, health, call).await)
                .await
        }
        _ => {
            let text = format!("unknown method {}", shortened(path));
            call.fail(Error::new(ErrorKind::UnknownMethod, text).into())
        }
    }
}

fn check(source: &dyn HealthSource, request: &Bytes) -> Result<Vec<u8>, Status> {
    let service = health::service_asked(request)?;
    health::check(source, &service).ok_or_else(|| {
        let text = format!("service {} is not known here", shortened(&service));
        Status::new(Code::NotFound, text)
    })
}

/// What a caller sent, cut for a status message: trailers have a limit of their own.
fn shortened(text: &str) -> String {
    text.chars().take(256).collect()
}

async fn watch(source: &dyn HealthSource, call: &mut LocalCall) -> Result<(), Status> {
    let request = call.within_idle(messages::Messages::only).await?;
    let mut watch = Watch::new(health::service_asked(&request)?);
    let mut changes = source.changes();
    loop {
        // What changes while a message is on its way is seen by the next turn: no change is missed, and a
        // caller that reads slowly gets the newest state only.
        if let Some(message) = watch.next(source) {
            call.send(&message, Bytes::new()).await?;
        }
        if source.is_draining() {
            return Err(draining());
        }
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| draining())?,
            gone = call.reset() => return Err(gone),
        }
    }
}

async fn reflect(
    reflection: &Reflection,
    source: &dyn HealthSource,
    call: &mut LocalCall,
) -> Result<(), Status> {
    let mut changes = source.changes();
    // Some callers wait for the headers before they ask.
    call.out()?;
    loop {
        let request = tokio::select! {
            biased;
            request = call.within_idle(messages::Messages::next) => request?,
            status = drained(source, &mut changes) => return Err(status),
        };
        let Some(request) = request else {
            return Ok(());
        };
        let (head, files) = reflection.answer_parts(&request);
        call.send(&head, files).await?;
    }
}

/// Ready when the process drains.
async fn drained(source: &dyn HealthSource, changes: &mut watch::Receiver<u64>) -> Status {
    while !source.is_draining() {
        if changes.changed().await.is_err() {
            break;
        }
    }
    draining()
}

fn draining() -> Status {
    Error::new(ErrorKind::Draining, "draining; try another address").into()
}

#[cfg(test)]
#[path = "grpc/grpc_tests.rs"]
mod tests;
