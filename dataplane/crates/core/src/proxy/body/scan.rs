//! The search for the route key of a call: what its metadata says, and what its first message does.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Event;
use crate::grpc::metadata;
use crate::headers::{Headers, Token, text};
use crate::proxy::method::{Method, Protocol, Streaming};
use crate::proxy::route::VersionUse;
use crate::proxy::route_key::{MAX_KEY_BYTES, Progress, RouteKey, RouteKeyScanner};

/// The search for the route key in the first message.
pub struct Scan {
    method: &'static Method,
    encoding: Option<Box<[u8]>>,
    /// From the metadata.
    given: RouteKey,
    /// From the message's first byte on.
    scanner: Option<RouteKeyScanner>,
    is_compressed: bool,
    has_ended: bool,
    /// Set where each message has to name one model, or none, to its end: how much of a compressed one is inflated.
    strict_limit: Option<usize>,
    /// What the first message asks for, once it has ended.
    first: Option<RouteKey>,
}

/// What has to be done so that a message asks for the version that the call was routed by.
pub enum Change<'a> {
    None,
    /// In place of a label.
    Replace(&'a str),
    /// As it asks for none.
    Insert(&'a str),
}

/// What the metadata asks for, and whether it has a model's name, if only an empty one.
///
/// # Errors
/// `bad_route_key` for what can be no name.
pub fn given(headers: &Headers, protocol: Protocol) -> Result<(RouteKey, bool), Error> {
    let (model, version) = (metadata::X_MODEL, metadata::X_MODEL_VERSION);
    let mut key = RouteKey {
        model: name(headers, model)?,
        version: name(headers, version)?,
        label: None,
    };
    if key.model.is_none() && protocol == Protocol::Seldon {
        // Seldon's own client can name a deployment nowhere else.
        key.model = name(headers, metadata::SELDON)?;
    }
    let has_model = headers.has(model) || key.model.is_some();
    Ok((key, has_model))
}

/// A name in the metadata; an empty one is none.
///
/// # Errors
/// `bad_route_key` for what can be no name.
fn name(headers: &Headers, field: Token) -> Result<Option<String>, Error> {
    let Some(value) = headers.get(field) else {
        return Ok(None);
    };
    let text = text(value).ok_or_else(|| bad(format!("{field} is not ASCII text")))?;
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
    /// Start before the first byte of the body. `strict_limit`: every message has to name the same model, or none; so
    /// much of a compressed one is inflated to see to it.
    pub fn new(
        method: &'static Method,
        headers: &Headers,
        given: RouteKey,
        strict_limit: Option<usize>,
    ) -> Self {
        Self {
            method,
            encoding: headers.get(metadata::GRPC_ENCODING).map(Into::into),
            given,
            scanner: None,
            is_compressed: false,
            has_ended: false,
            strict_limit,
            first: None,
        }
    }

    pub fn is_strict(&self) -> bool {
        self.strict_limit.is_some()
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
                if self.is_strict() && !self.has_ended {
                    self.first = Some(self.key());
                }
                self.has_ended = true;
            }
            (Event::Data(_), None) => {}
        }
        Ok(())
    }

    fn start(&mut self, compressed: bool) -> Result<(), Error> {
        self.is_compressed = compressed;
        let (encoding, limit) = (self.encoding.as_deref(), self.strict_limit);
        // As gRPC's servers do, refuse an unknown encoding whatever the message is marked as.
        let is_known = matches!(
            encoding,
            None | Some(b"" | b"identity" | b"gzip" | b"deflate")
        );
        let mut scanner = if compressed || !is_known {
            RouteKeyScanner::new_compressed(self.method, encoding, limit)?
        } else {
            RouteKeyScanner::new(self.method)
        };
        match &self.first {
            Some(first) => scanner.set_first(first),
            None => scanner.set_given(&self.given),
        }
        if limit.is_some() {
            scanner.be_strict();
        }
        self.scanner = Some(scanner);
        Ok(())
    }

    /// Whether enough of the key is final, and of the message what has to be changed is there.
    /// `uses` says what the second, a version or label, does for the first, a model.
    pub fn is_found(&self, uses: &impl Fn(Option<&str>, Option<&str>) -> VersionUse) -> bool {
        let Some(scanner) = &self.scanner else {
            return false;
        };
        let uses = || uses(self.model(), self.version());
        match scanner.progress() {
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

    /// What has to be done so that the message asks for the version that the call was routed by; from now on it may ask
    /// for no other. `version` is the one that what the call asks for stands for.
    ///
    /// # Errors
    /// `bad_route_key` where it must be changed, and cannot.
    pub fn change<'a>(&'a mut self, version: Option<&'a str>) -> Result<Change<'a>, Error> {
        let given = self.given.version.as_deref();
        let Some(scanner) = self.scanner.as_mut() else {
            return Ok(Change::None);
        };
        let found = scanner.key().version_or_label();
        let (what, change) = match (found, given, version) {
            (Some(_), _, None) | (None, None, _) => return Ok(Change::None),
            (Some(found), _, Some(version)) => (
                format!("label {found:?} stands for version {version} here"),
                Change::Replace(version),
            ),
            (None, Some(given), version) => (
                format!("x-model-version asks for {given:?} and the message for none"),
                Change::Insert(version.unwrap_or(given)),
            ),
        };
        let reason = if !self.method.plan.has_version() {
            return Ok(Change::None);
        } else if self.method.streaming == Streaming::Bidi {
            "the messages of a stream are not changed".into()
        } else if self.is_compressed {
            "a compressed message is not changed".into()
        } else if let Change::Insert(_) = change
            && self.method.plan.is_repeated()
        {
            "each part of this message has a version of its own".into()
        } else if let Change::Replace(_) = change
            && let Err(error) = scanner.close()
        {
            error.message
        } else {
            return Ok(change);
        };
        let send = version.unwrap_or("the version");
        Err(bad(format!(
            "{what}, but {reason}; send {send} in the message"
        )))
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
