//! The services that every program of ours answers itself: health, reflection, and what the Open Inference Protocol
//! asks of a server.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::call::LocalCall;
use super::health::{self, HealthSource, Watch};
use super::oip::{self, Inventory};
use super::reflection::{self, Reflection};
use crate::call::head::shortened;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Status;

/// Full names of the services that are answered here as a whole.
pub const SERVICES: [&str; 3] = [
    health::SERVICE,
    reflection::SERVICES[0],
    reflection::SERVICES[1],
];

/// What local methods answer from.
pub struct LocalServices {
    pub health: Arc<dyn HealthSource>,
    pub inventory: Arc<dyn Inventory>,
    pub reflection: Arc<Reflection>,
}

// === impl LocalServices ===

impl LocalServices {
    /// Answer a call; a path that is not known here is UNIMPLEMENTED. Returns the code that the caller got, for the
    /// metrics. Streams end with UNAVAILABLE when the process drains.
    pub async fn serve(&self, path: &str, call: LocalCall) -> Code {
        let health = &*self.health;
        match path {
            "/grpc.health.v1.Health/Check" => call.unary(|request| check(health, &request)).await,
            "/grpc.health.v1.Health/List" => call.unary(|_| Ok(health::list(health))).await,
            "/grpc.health.v1.Health/Watch" => {
                call.run(async |call| watch(health, call).await).await
            }
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                call.run(async |call| reflect(&self.reflection, health, call).await)
                    .await
            }
            _ => match oip::answer(path) {
                Some(answer) => call.unary(|it| answer(&*self.inventory, it)).await,
                None => {
                    let text = format!("unknown method {}", shortened(path));
                    call.fail(Error::new(ErrorKind::UnknownMethod, text).into())
                }
            },
        }
    }
}

fn check(source: &dyn HealthSource, request: &Bytes) -> Result<Vec<u8>, Status> {
    let service = health::service_asked(request)?;
    health::check(source, &service).ok_or_else(|| {
        // Cut, as trailers have a limit of their own.
        let text = format!("service {} is not known here", shortened(&service));
        Status::answer(Code::NotFound, text)
    })
}

async fn watch(source: &dyn HealthSource, call: &mut LocalCall) -> Result<(), Status> {
    let request = call.only().await?;
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
            request = call.next() => request?,
            status = drained(source, &mut changes) => return Err(status),
        };
        let Some(request) = request else {
            return Ok(());
        };
        let (head, files) = reflection.answer(&request);
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
#[path = "services_tests.rs"]
mod tests;
