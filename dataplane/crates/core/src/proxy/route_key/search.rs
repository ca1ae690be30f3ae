//! What was found so far in one message, and whether what comes next may stand beside it.

use super::plan::{MAX_KEYS, Plan, Role};
use super::tag::Tag;
use super::{Progress, RouteKey, bad, name};
use crate::error::Error;
use crate::grpc::wire::{FieldId, ROOT, Sink, Span, Value};

/// What was found so far in one message.
#[derive(Debug, Default)]
pub struct Search {
    pub progress: Progress,
    /// By key path; an empty name counts as present here, so that one cannot hide behind it.
    keys: [Option<String>; MAX_KEYS],
    pub found: RouteKey,
    /// The model is known from elsewhere: the one in the message does not matter.
    pub is_model_given: bool,
    /// That model, or, of a later message, the first one's.
    pub model: Option<String>,
    /// Each place that can name the model has to name the same, or none.
    pub is_strict: bool,
    /// Of a later message of a stream: what the first one asked for.
    pub first_version: Option<Option<String>>,
    /// A version or label known from elsewhere; the message may not ask for another.
    pub given_version: Option<String>,
    /// The version or label was there again behind the place where the key was decided.
    pub has_repeat: bool,
    /// No version or label may come any more.
    pub is_closed: bool,
    tag: Tag,
    version_number: i64,
}

/// Gives a message's fields to a [`Search`], by the role that the plan has for each.
pub struct KeySink<'a> {
    pub plan: &'static Plan,
    pub search: &'a mut Search,
}

impl Sink for KeySink<'_> {
    type Error = Error;

    fn enter(&mut self, message: FieldId, _: Span) -> Result<(), Error> {
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

    fn value(&mut self, field: FieldId, value: Value<'_>, _: Span) -> Result<(), Error> {
        match (self.plan.role(field), value) {
            (Role::Key(_), _) if self.search.is_model_given && !self.search.is_strict => {}
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
        if self.is_strict && !name.is_empty() {
            match &self.model {
                Some(known) if *known != name => return Err(names_two(known, &name)),
                Some(_) => {}
                None => self.model = Some(name.clone()),
            }
        }
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
        self.check_asked(&version, self.found.version.is_none())?;
        set("version", &mut self.found.version, version)?;
        self.check_one_of()
    }

    fn set_label(&mut self, label: String) -> Result<(), Error> {
        self.check_asked(&label, self.found.label.is_none())?;
        set("version label", &mut self.found.label, label)?;
        self.check_one_of()
    }

    /// A version that comes after the route was taken would not be the one that was routed.
    fn check_asked(&mut self, asked: &str, is_new: bool) -> Result<(), Error> {
        if let Some(first) = &self.first_version {
            return match (first, asked) {
                (None, "") => Ok(()),
                (Some(first), asked) if first == asked => Ok(()),
                _ => Err(bad(format!(
                    "the first message of the stream asks for version {:?} and a later one for {asked:?}; open a stream \
                     for each",
                    first.as_deref().unwrap_or_default()
                ))),
            };
        }
        if asked.is_empty() {
            // Readers take the last one: they would find that no version is asked for.
            let known = self.given_version.as_deref();
            return match known.or(self.found.version_or_label()) {
                Some(known) => Err(bad(format!(
                    "the call asks for version {known:?} and the message for an empty one; leave out the empty one"
                ))),
                None => Ok(()),
            };
        }
        if let Some(given) = self
            .given_version
            .as_deref()
            .filter(|given| *given != asked)
        {
            return Err(bad(format!(
                "the metadata x-model-version asks for {given:?} and the message for {asked:?}; send one"
            )));
        }
        let is_decided = self.progress == Progress::Decided;
        if self.is_closed || (is_new && is_decided) {
            return Err(bad(
                "the message brings a version or label behind the part that names its model",
            ));
        }
        self.has_repeat |= is_decided;
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
        if self.is_model_given {
            self.progress = Progress::Decided;
            return Ok(());
        }
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
        if self.is_model_given || self.found.model.is_some() {
            let complete =
                !plan.has_version() || self.found.version.is_some() || self.found.label.is_some();
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

/// Where callers are told apart, the call has one model.
#[cold]
fn names_two(known: &str, new: &str) -> Error {
    bad(format!(
        "the call names model {known:?} and model {new:?}; each place that can name the model has to name the same one"
    ))
}

fn differs(what: &str, known: &str, new: &str) -> Error {
    bad(format!(
        "the message asks for {what} {known:?} and for {what} {new:?}; send one"
    ))
}
