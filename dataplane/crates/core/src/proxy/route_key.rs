//! The route key of a call: found in the request message as it arrives, without decoding or joining it.
//!
//! The rules (design.md, "Route key"): equal repeats are fine; a different key, version or label is always
//! bad_route_key, also behind the place where the key was decided: an endpoint that reads the last one would
//! otherwise serve a model that nobody authorised. So [`RouteKeyScanner::feed`] goes on being called to the
//! message's end, while bytes are already forwarded. The outcome does not depend on how the message is
//! split into chunks.

mod inflate;
pub mod plan;
mod rewrite;
mod search;
mod tag;

pub use inflate::{INFLATE_LIMIT, Inflater};
pub use rewrite::{insert_version, replace_version};

use super::method::Method;
use crate::error::{Error, ErrorKind};
use crate::grpc::wire::{Malformed, Scanner, Value};
use plan::Plan;
use search::{KeySink, Search};

/// Longest model name, version and label, bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteKey {
    /// The model's name; `None` when the request names none, or an empty one.
    pub model: Option<String>,
    pub version: Option<String>,
    pub label: Option<String>,
}

/// How much is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Not even the model.
    #[default]
    Pending,
    /// The model is known and final; a version or label may still come. A model without routes of its own
    /// for versions can be routed now.
    Model,
    /// Model, version and label are known and final.
    Decided,
}

impl RouteKey {
    pub fn version_or_label(&self) -> Option<&str> {
        self.version.as_deref().or(self.label.as_deref())
    }
}

/// Looks for the route key in one message.
#[derive(Debug)]
pub struct RouteKeyScanner {
    plan: &'static Plan,
    scanner: Scanner,
    search: Search,
    /// For a compressed message; in a box, as few calls have one.
    inflater: Option<Box<Inflater>>,
}

impl RouteKeyScanner {
    /// Start before the first byte of the message (behind gRPC's five-byte prefix).
    pub fn new(method: &'static Method) -> Self {
        let mut search = Search::default();
        if method.plan.is_empty() {
            search.progress = Progress::Decided;
        }
        Self {
            plan: &method.plan,
            scanner: Scanner::default(),
            search,
            inflater: None,
        }
    }

    /// Start before the first byte of a compressed message; `encoding` is the call's `grpc-encoding`.
    ///
    /// The first [`INFLATE_LIMIT`] bytes of the inflated message are looked at, no more; with `whole`, all of them, and a
    /// message that has more than so many is refused.
    ///
    /// Errors: unsupported_encoding for an encoding that is not known here, missing_encoding where there is none.
    pub fn new_compressed(
        method: &'static Method,
        encoding: Option<&[u8]>,
        whole: Option<usize>,
    ) -> Result<Self, Error> {
        let mut scanner = Self::new(method);
        if scanner.search.progress != Progress::Decided {
            scanner.inflater = Some(Box::new(Inflater::new(encoding, whole)?));
        }
        Ok(scanner)
    }

    /// Take what the call's metadata says: the message's model does not matter beside a given one, and the message
    /// may not ask for another version or label than a given one.
    pub fn set_given(&mut self, given: &RouteKey) {
        self.search.is_model_given = given.model.is_some();
        self.search.given_version.clone_from(&given.version);
        self.search.model.clone_from(&given.model);
        if self.search.is_model_given {
            self.search.progress = self.search.progress.max(Progress::Model);
        }
    }

    /// Take what the first message of a stream asks for: this one, a later one, may ask for nothing else.
    pub fn set_first(&mut self, first: &RouteKey) {
        self.search.is_model_given = first.model.is_some();
        self.search.model.clone_from(&first.model);
        self.search.first_version = Some(first.version_or_label().map(str::to_owned));
        self.search.progress = Progress::Decided;
    }

    /// Let every place that can name the model name the same, or none: an endpoint may read another than we do.
    pub fn be_strict(&mut self) {
        self.search.is_strict = true;
    }

    /// Read the next bytes of the message.
    ///
    /// Errors: bad_route_key for a message that is malformed, a name that cannot be one, or a key that differs
    /// from the one before. Nothing more can be read after an error.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Progress, Error> {
        if self.plan.is_empty() {
            return Ok(Progress::Decided);
        }
        let Some(inflater) = &mut self.inflater else {
            return self.scan(chunk);
        };
        if inflater.is_whole() {
            return self.feed_whole(chunk);
        }
        let inflated = inflater.feed(chunk)?.to_vec();
        let full = inflater.is_full();
        let progress = self.scan(&inflated)?;
        if full && progress == Progress::Pending {
            return Err(bad(format!(
                "no route key in the first {INFLATE_LIMIT} bytes of the compressed message; send it as x-model"
            )));
        }
        Ok(progress)
    }

    /// Read the next bytes of a compressed message that is read whole.
    fn feed_whole(&mut self, mut chunk: &[u8]) -> Result<Progress, Error> {
        while let Some(inflater) = &mut self.inflater {
            let is_all_taken = chunk.is_empty();
            let inflated = inflater.step(&mut chunk)?;
            self.scan(&inflated)?;
            if is_all_taken {
                break;
            }
        }
        Ok(self.search.progress)
    }

    /// Say that the message is complete: what is known now is all there is.
    ///
    /// Errors: bad_route_key when the message is cut off in the middle of a field.
    pub fn finish(&mut self) -> Result<(), Error> {
        let inflated_whole = self
            .inflater
            .as_ref()
            .is_none_or(|inflater| !inflater.is_full());
        if !self.plan.is_empty() && inflated_whole {
            self.scanner.finish().map_err(Error::from)?;
        }
        self.search.progress = Progress::Decided;
        Ok(())
    }

    /// How much is known.
    pub fn progress(&self) -> Progress {
        self.search.progress
    }

    /// What the message says, final as far as [`progress`](Self::progress) says.
    pub fn key(&self) -> &RouteKey {
        &self.search.found
    }

    /// From now on the message may ask for no version or label: what was found is being replaced.
    ///
    /// Errors: bad_route_key when it has been there again behind the place where the key was decided, which an
    /// endpoint could read in place of the first.
    pub fn close(&mut self) -> Result<(), Error> {
        self.search.is_closed = true;
        if self.search.has_repeat && !self.plan.is_repeated() {
            return Err(bad("the message asks for it twice"));
        }
        Ok(())
    }

    fn scan(&mut self, chunk: &[u8]) -> Result<Progress, Error> {
        let mut sink = KeySink {
            plan: self.plan,
            search: &mut self.search,
        };
        self.scanner.feed(&self.plan.shape, chunk, &mut sink)?;
        Ok(self.search.progress)
    }
}

/// Check a name from the wire.
fn name(what: &str, value: Value<'_>) -> Result<String, Error> {
    let bytes = match value {
        Value::Bytes(bytes) if bytes.len() <= MAX_KEY_BYTES => bytes,
        Value::Bytes(bytes) => return Err(too_long(what, bytes.len())),
        Value::TooLong(length) => return Err(too_long(what, length)),
        // The scanner reports bytes for fields of kind Bytes.
        Value::Varint(_) | Value::Fixed64(_) => return Err(bad(format!("the {what} is a number"))),
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(bad(format!("the {what} is not valid UTF-8"))),
    }
}

fn too_long(what: &str, length: usize) -> Error {
    bad(format!(
        "the {what} has {length} bytes, at most {MAX_KEY_BYTES} are allowed"
    ))
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadRouteKey, message)
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        bad(format!("the request message does not parse: {malformed}"))
    }
}

#[cfg(test)]
#[path = "route_key/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "route_key/strict_tests.rs"]
mod strict_tests;
