//! The search for the route key of a call: what its metadata says, and what its first message does.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Event;
use crate::grpc::metadata;
use crate::proxy::method::{Method, Streaming};
use crate::proxy::route::VersionUse;
use crate::proxy::route_key::{MAX_KEY_BYTES, Progress, RouteKey, RouteKeyScanner};

/// The search for the route key in the first message.
pub struct Scan {
    method: &'static Method,
    encoding: Option<HeaderValue>,
    /// From the metadata.
    given: RouteKey,
    /// What the metadata says is enough where the message cannot be read.
    is_given_whole: bool,
    /// From the message's first byte on; none for one that cannot be read.
    scanner: Option<RouteKeyScanner>,
    is_compressed: bool,
    has_ended: bool,
}

/// A name in the metadata; an empty one is none.
///
/// # Errors
/// `bad_route_key` for what can be no name.
pub fn name(field: &HeaderName, value: Option<&HeaderValue>) -> Result<Option<String>, Error> {
    let Some(value) = value else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| bad(format!("{field} is not ASCII text")))?;
    if text.len() > MAX_KEY_BYTES {
        return Err(bad(format!(
            "{field} has {} bytes, limit {MAX_KEY_BYTES}",
            text.len()
        )));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn bad(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadRouteKey, message)
}

// === impl Scan ===

impl Scan {
    /// Start before the first byte of the body. `uses` says what the second, a version or label, does for the first,
    /// a model.
    pub fn new(
        method: &'static Method,
        headers: &HeaderMap,
        given: RouteKey,
        uses: &impl Fn(Option<&str>, Option<&str>) -> VersionUse,
    ) -> Self {
        let (model, version) = (given.model.as_deref(), given.version.as_deref());
        let is_given_whole = model.is_some() && version.is_some() && !uses(model, version).is_alias;
        Self {
            method,
            encoding: headers.get(metadata::GRPC_ENCODING).cloned(),
            given,
            is_given_whole,
            scanner: None,
            is_compressed: false,
            has_ended: false,
        }
    }

    /// Read on in the first message.
    ///
    /// # Errors
    /// `bad_route_key`.
    pub fn event(&mut self, event: Event<'_>) -> Result<(), Error> {
        match (event, &mut self.scanner) {
            (Event::Start { compressed, .. }, _) => self.start(compressed)?,
            (Event::Data(data), Some(scanner)) => {
                scanner.feed(data)?;
            }
            (Event::End, scanner) => {
                if let Some(scanner) = scanner {
                    scanner.finish()?;
                }
                self.has_ended = true;
            }
            (Event::Data(_), None) => {}
        }
        Ok(())
    }

    fn start(&mut self, compressed: bool) -> Result<(), Error> {
        self.is_compressed = compressed;
        let scanner = if compressed {
            RouteKeyScanner::new_compressed(self.method, self.encoding.as_ref())
        } else {
            Ok(RouteKeyScanner::new(self.method))
        };
        self.scanner = match scanner {
            Ok(scanner) => Some(scanner),
            Err(_) if self.is_given_whole => None,
            Err(error) => return Err(error),
        };
        if let Some(scanner) = &mut self.scanner {
            scanner.set_given(&self.given);
        }
        Ok(())
    }

    /// Whether enough of the key is final, and of the message what has to be changed is there.
    pub fn is_found(&self, uses: &impl Fn(Option<&str>, Option<&str>) -> VersionUse) -> bool {
        let progress = match &self.scanner {
            Some(scanner) => scanner.progress(),
            None if self.given.model.is_some() => Progress::Model,
            None => Progress::Pending,
        };
        let uses = || uses(self.model(), self.version());
        match progress {
            Progress::Pending => false,
            Progress::Model => {
                let uses = uses();
                !uses.is_alias && (!uses.matters || self.given.version.is_some())
            }
            // Where it may well be there several times, the last can be anywhere.
            Progress::Decided => {
                self.has_ended || !self.method.plan.is_repeated() || !uses().is_alias
            }
        }
    }

    /// What metadata and message say so far; they do not contradict each other.
    pub fn key(&self) -> RouteKey {
        let label = self.found().and_then(|found| found.label.as_deref());
        RouteKey {
            model: self.model().map(str::to_owned),
            version: self
                .version()
                .filter(|_| label.is_none())
                .map(str::to_owned),
            label: label.map(str::to_owned),
        }
    }

    /// Prepare for another version in the message; whether it asks for one that must be replaced.
    ///
    /// # Errors
    /// `bad_route_key` where it must be, and cannot.
    pub fn replace(&mut self, version: &str) -> Result<bool, Error> {
        let Some(scanner) = &mut self.scanner else {
            return Ok(false);
        };
        let Some(label) = scanner.key().version_or_label().map(str::to_owned) else {
            // Only the metadata asks for it.
            scanner.close()?;
            return Ok(false);
        };
        let refuse = |reason: &str| {
            Err(bad(format!(
                "label {label:?} stands for version {version} here, but {reason}; send the version"
            )))
        };
        if self.method.streaming == Streaming::Bidi {
            return refuse("the messages of a stream are not changed");
        }
        if self.is_compressed {
            return refuse("a compressed message is not changed");
        }
        if let Err(error) = scanner.close() {
            return refuse(&error.message);
        }
        Ok(true)
    }

    /// What to send so that the route key need not be looked for in the message.
    pub fn remedy(&self) -> &'static str {
        if self.given.model.is_some() {
            "send the version in x-model-version"
        } else {
            "send the model's name in x-model"
        }
    }

    fn found(&self) -> Option<&RouteKey> {
        self.scanner.as_ref().map(RouteKeyScanner::key)
    }

    fn model(&self) -> Option<&str> {
        let given = self.given.model.as_deref();
        given.or_else(|| self.found()?.model.as_deref())
    }

    fn version(&self) -> Option<&str> {
        let given = self.given.version.as_deref();
        given.or_else(|| self.found()?.version_or_label())
    }
}
