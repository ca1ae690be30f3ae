//! What was found so far in one message, and whether what comes next may stand beside it.

use super::plan::{MAX_KEYS, Plan, Role};
use super::tag::Tag;
use super::{Progress, RouteKey, bad, name};
use crate::error::Error;
use crate::grpc::wire::{FieldId, ROOT, Sink, Value};

/// What was found so far in one message.
#[derive(Debug, Default)]
pub struct Search {
    pub progress: Progress,
    /// By key path; an empty name counts as present here, so that one cannot hide behind it.
    keys: [Option<String>; MAX_KEYS],
    pub found: RouteKey,
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

fn differs(what: &str, known: &str, new: &str) -> Error {
    bad(format!(
        "the message asks for {what} {known:?} and for {what} {new:?}; send one"
    ))
}
