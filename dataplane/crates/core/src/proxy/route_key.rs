//! The route key of a call: found in the request message as it arrives, without decoding or joining it.
//!
//! The rules (design.md, "Route key"): equal repeats are fine; a different key, version or label is always
//! bad_route_key, also behind the place where the key was decided: an endpoint that reads the last one would
//! otherwise serve a model that nobody authorised. So [`RouteKeyScanner::feed`] goes on being called to the
//! message's end, while bytes are already forwarded. The outcome does not depend on how the message is
//! split into chunks.

mod inflate;
pub mod plan;
mod tag;

pub use inflate::{INFLATE_LIMIT, Inflater, inflate_prefix};

use super::method::Method;
use crate::error::{Error, ErrorKind};
use crate::grpc::wire::{FieldId, Malformed, ROOT, Scanner, Sink, Value};
use plan::{MAX_KEYS, Plan, Role};
use tag::Tag;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Not even the model.
    Pending,
    /// The model is known and final; a version or label may still come. A model without routes of its own
    /// for versions can be routed now.
    Model,
    /// Model, version and label are known and final.
    Decided,
}

/// Looks for the route key in one message.
#[derive(Debug)]
pub struct RouteKeyScanner {
    plan: &'static Plan,
    scanner: Scanner,
    search: Search,
    /// For a compressed message.
    inflater: Option<Inflater>,
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
    /// The first [`INFLATE_LIMIT`] bytes of the inflated message are looked at, no more.
    ///
    /// Errors: bad_route_key for an encoding that is not known here.
    pub fn new_compressed(
        method: &'static Method,
        encoding: Option<&http::HeaderValue>,
    ) -> Result<Self, Error> {
        let mut scanner = Self::new(method);
        if scanner.search.progress != Progress::Decided {
            scanner.inflater = Some(Inflater::new(encoding)?);
        }
        Ok(scanner)
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

    /// What is known, final as far as [`progress`](Self::progress) says.
    pub fn key(&self) -> &RouteKey {
        &self.search.found
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

/// Return the task id in a model name, as the dl_inference service's clients expect: the last part between
/// `-` that is not empty, read as Java's `Integer.parseInt` does (ASCII digits), without leading zeros.
///
/// `None` when it is no positive 32-bit number. `textcnn-69`, `x-+69`, `x-069` and `textcnn-69-` are all `69`.
pub fn task_id_of(name: &str) -> Option<String> {
    let last = name.trim_end_matches('-').rsplit('-').next()?;
    match last.parse::<i32>() {
        Ok(id @ 1..) => Some(id.to_string()),
        _ => None,
    }
}

/// What was found so far in one message.
#[derive(Debug)]
struct Search {
    progress: Progress,
    /// By key path; an empty name counts as present here, so that one cannot hide behind it.
    keys: [Option<String>; MAX_KEYS],
    found: RouteKey,
    tag: Tag,
    version_number: i64,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            progress: Progress::Pending,
            keys: Default::default(),
            found: RouteKey::default(),
            tag: Tag::default(),
            version_number: 0,
        }
    }
}

struct KeySink<'a> {
    plan: &'static Plan,
    search: &'a mut Search,
}

impl Sink for KeySink<'_> {
    type Error = Error;

    fn enter(&mut self, message: FieldId) -> Result<(), Error> {
        match self.plan.role(message) {
            Role::TagEntry => self.search.tag = Tag::default(),
            Role::VersionWrapper => self.search.version_number = 0,
            _ => {}
        }
        Ok(())
    }

    fn exit(&mut self, message: FieldId) -> Result<(), Error> {
        match self.plan.role(message) {
            Role::TagEntry => {
                let tag = std::mem::take(&mut self.search.tag);
                if let Some((index, name)) = tag.key(&self.plan.tags)? {
                    self.search.set_key(index, name)?;
                }
            }
            Role::VersionWrapper => {
                let version = self.search.version_number.to_string();
                self.search.set_version(version)?;
            }
            _ => {}
        }
        if message == self.plan.decided_by {
            self.search.decide()
        } else {
            Ok(())
        }
    }

    fn value(&mut self, field: FieldId, value: Value<'_>) -> Result<(), Error> {
        match (self.plan.role(field), value) {
            (Role::Key(index), value) => self.search.set_key(index, name("model name", value)?)?,
            (Role::Version, value) => self.search.set_version(name("version", value)?)?,
            (Role::Label, value) => self.search.set_label(name("version label", value)?)?,
            // Int64Value has a signed value; the wire holds its two's complement.
            (Role::VersionNumber, Value::Varint(number)) => {
                self.search.version_number = number as i64
            }
            (Role::TagName, Value::Bytes(name)) => self.search.tag.set_name(name, &self.plan.tags),
            (Role::TagName, _) => self.search.tag.set_name(b"", &self.plan.tags),
            (Role::TagNumber, Value::Fixed64(bits)) => {
                self.search.tag.set_number(f64::from_bits(bits))
            }
            (Role::TagText, Value::Bytes(text)) => self.search.tag.set_text(text),
            (Role::TagText | Role::TagOther, value) => self.search.tag.set_other(value),
            _ => {}
        }
        if self.plan.decided_by == ROOT {
            self.search.decide_at_root(self.plan)
        } else {
            Ok(())
        }
    }
}

impl Search {
    fn set_key(&mut self, index: usize, name: String) -> Result<(), Error> {
        match &self.keys[index] {
            Some(known) if *known != name => Err(differs("model", known, &name)),
            Some(_) => Ok(()),
            None => {
                self.keys[index] = Some(name);
                Ok(())
            }
        }
    }

    fn set_version(&mut self, version: String) -> Result<(), Error> {
        self.check_late(self.found.version.is_none() && !version.is_empty())?;
        set("version", &mut self.found.version, version)?;
        self.check_one_of()
    }

    fn set_label(&mut self, label: String) -> Result<(), Error> {
        self.check_late(self.found.label.is_none() && !label.is_empty())?;
        set("version label", &mut self.found.label, label)?;
        self.check_one_of()
    }

    /// A version that comes after the route was taken would not be the one that was routed.
    fn check_late(&self, is_new: bool) -> Result<(), Error> {
        if is_new && self.progress == Progress::Decided {
            return Err(bad(
                "the message brings a version or label after it has ended its model's name",
            ));
        }
        Ok(())
    }

    /// They are a oneof: implementations take the last, so a message with both means to hide one.
    fn check_one_of(&self) -> Result<(), Error> {
        match (&self.found.version, &self.found.label) {
            (Some(version), Some(label)) => Err(bad(format!(
                "the message has version {version:?} and version label {label:?}; send one of them"
            ))),
            _ => Ok(()),
        }
    }

    /// The message that holds the key is complete.
    fn decide(&mut self) -> Result<(), Error> {
        let Some(name) = self.keys.iter().flatten().find(|name| !name.is_empty()) else {
            return Ok(());
        };
        match &self.found.model {
            Some(known) if known != name => Err(differs("model", known, name)),
            Some(_) => Ok(()),
            None => {
                self.found.model = Some(name.clone());
                self.progress = Progress::Decided;
                Ok(())
            }
        }
    }

    /// The key is a field of the request itself, which has one key path: it is final when it is there.
    fn decide_at_root(&mut self, plan: &Plan) -> Result<(), Error> {
        if self.found.model.is_none() {
            self.found.model = self.keys[0].clone().filter(|name| !name.is_empty());
        }
        if self.found.model.is_some() {
            let complete =
                !plan.has_version || self.found.version.is_some() || self.found.label.is_some();
            self.progress = if complete {
                Progress::Decided
            } else {
                Progress::Model
            };
        }
        Ok(())
    }
}

/// Store a version or label; an empty one is none.
fn set(what: &str, slot: &mut Option<String>, new: String) -> Result<(), Error> {
    match slot {
        Some(known) if *known != new => Err(differs(what, known, &new)),
        Some(_) => Ok(()),
        None => {
            *slot = Some(new).filter(|new| !new.is_empty());
            Ok(())
        }
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

fn differs(what: &str, known: &str, new: &str) -> Error {
    bad(format!(
        "the message asks for {what} {known:?} and for {what} {new:?}; send one"
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
