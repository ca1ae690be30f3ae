//! `/openapi.json`: what can be asked over HTTP, of each model by what the model says of itself (OpenAPI 3.1).

mod ask;
mod document;
mod schema;
mod together;

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Error;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::grpc::metadata;
use crate::rest::tensors::json::bad;
use crate::rest::web::path::decoded;
use crate::rest::web::reply::{Failed, Reply};

/// Models that one document describes. Where there are more, it names them, and `?model=NAME` describes one.
const MAX_MODELS: usize = 32;
/// So long a document is given out again.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The document of one thread, for as long as it is fresh.
#[derive(Debug)]
pub struct Described {
    last: RefCell<Option<(Instant, Bytes)>>,
    /// Held by the one that makes a new document: a flood of requests asks the models once.
    making: Semaphore,
}

// === impl Described ===

impl Default for Described {
    fn default() -> Self {
        Self {
            last: RefCell::default(),
            making: Semaphore::new(1),
        }
    }
}

impl Described {
    /// The document. Models are asked without the headers of whoever asks for it, as others get the same document.
    ///
    /// # Errors
    /// Those of the call that lists the models; for a single model `bad_request`, and those of its metadata.
    pub async fn reply<F: Fn(Head, Body, Answer)>(
        &self,
        mut caller: Caller<F>,
        query: Option<&str>,
    ) -> Result<Reply, Failed> {
        metadata::forget_caller(&mut caller.metadata);
        if let Some(name) = model_of(query)? {
            let model = ask::one(&caller, name).await?;
            let names = [model.name.clone()];
            return Ok(Reply::json(&document::of(&names, &[model])));
        }
        if let Some(fresh) = self.fresh() {
            return Ok(Reply::of(fresh));
        }
        // Never closed. Whoever holds it has a limit of time.
        let _making = self.making.acquire().await;
        if let Some(fresh) = self.fresh() {
            return Ok(Reply::of(fresh));
        }
        let names = ask::names(&caller).await?;
        let models = match names.len() {
            ..=MAX_MODELS => ask::all(&caller, &names).await,
            _ => Vec::new(),
        };
        let text = Bytes::from(document::of(&names, &models).to_string());
        *self.last.borrow_mut() = Some((Instant::now(), text.clone()));
        Ok(Reply::of(text))
    }

    fn fresh(&self) -> Option<Bytes> {
        let last = self.last.borrow();
        let (made, text) = last.as_ref()?;
        (made.elapsed() < MAX_AGE).then(|| text.clone())
    }
}

/// The model that a query names.
fn model_of(query: Option<&str>) -> Result<Option<String>, Error> {
    for pair in query.unwrap_or_default().split('&') {
        let Some(name) = pair.strip_prefix("model=") else {
            continue;
        };
        // As forms have it, a plus is a space.
        let name = decoded(&name.replace('+', "%20"))?.into_owned();
        if name.is_empty() {
            return Err(bad("?model= names no model: leave it out for all".into()));
        }
        return Ok(Some(name));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_model_or_none() {
        let named = |query| model_of(query).map_err(|error| error.message.into_owned());
        assert_eq!(named(None), Ok(None));
        assert_eq!(named(Some("")), Ok(None));
        assert_eq!(named(Some("models=x&m")), Ok(None));
        assert_eq!(named(Some("a=b&model=a%2Fb+c")), Ok(Some("a/b c".into())));
        assert!(
            named(Some("model="))
                .unwrap_err()
                .contains("names no model")
        );
        assert!(named(Some("model=%ff")).unwrap_err().contains("not UTF-8"));
    }
}
