//! The index of models that a server gives.

use crate::headers::text;
use crate::local::messages::inference::RepositoryIndexResponse;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::{Caller, parse};
use crate::rest::web::reply::Failed;

pub const INDEX: &str = "/inference.GRPCInferenceService/RepositoryIndex";

/// The name of the only model there is; none where there are several, or where it is no metadata.
///
/// # Errors
/// Those of the call.
pub async fn only<F: Fn(Head, Body, Answer)>(caller: &Caller<F>) -> Result<Option<String>, Failed> {
    let told: RepositoryIndexResponse = parse(caller.call(INDEX, Vec::new()).await?)?;
    let mut names: Vec<String> = told.models.into_iter().map(|it| it.name).collect();
    names.dedup();
    Ok(match &names[..] {
        [name] => text(name.as_bytes()).map(str::to_owned),
        _ => None,
    })
}
