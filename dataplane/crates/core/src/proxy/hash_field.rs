//! A field of the request that keeps calls on one endpoint (policy `maglev`): which one the configuration names, where
//! it is in each method's message, and the search for it in the message's first bytes.

use std::sync::Arc;

use super::affinity::stable_hash;
use super::method::{self, Kind, Method, Protocol};
use super::route_key::Inflater;
use crate::grpc::framing::{Event, Frames};
use crate::grpc::wire::{FieldId, FieldKind, Malformed, ROOT, Scanner, Shape, Sink, Span, Value};

/// How far into a message the field is looked for: as far as a compressed message is inflated. Every field that can be
/// named comes before the tensors where a message has its fields in order, as all generated code writes them.
pub const LIMIT: usize = 64 * 1024;

/// What can be named.
const FORMS: &str = "`id` and `parameters.NAME` (Open Inference), `meta.puid` and `meta.tags.NAME` (Seldon), \
                     `model_spec.signature_name` (TF Serving)";

/// The field, for every method; cheap to clone.
#[derive(Clone, Debug)]
pub struct HashField {
    /// By method id; none where a method's request has no such field.
    plans: Arc<[Option<Arc<FieldPlan>>]>,
}

/// Where the field is in one message.
#[derive(Debug)]
struct FieldPlan {
    shape: Shape,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A string.
    Text(FieldId),
    /// An entry of a map from names to messages that hold one value of several kinds.
    Entry {
        entry: FieldId,
        name: FieldId,
        wanted: Box<str>,
        text: FieldId,
        number: FieldId,
        signed: Option<FieldId>,
        unsigned: Option<FieldId>,
    },
}

/// The search in one message.
pub struct FieldSearch {
    plan: Arc<FieldPlan>,
    frames: Frames,
    scanner: Scanner,
    encoding: Option<Box<[u8]>>,
    inflater: Option<Box<Inflater>>,
    /// Bytes of the message that may still be looked at.
    left: usize,
    found: Found,
    is_over: bool,
}

/// What was found so far: hashes.
#[derive(Debug, Default)]
struct Found {
    hash: Option<u64>,
    /// The map's entry under way.
    is_wanted: bool,
    value: Option<u64>,
}

struct FieldSink<'a> {
    target: &'a Target,
    found: &'a mut Found,
}

// === impl HashField ===

impl HashField {
    /// # Errors
    /// Names the value and what it can be.
    pub fn new(text: &str) -> Result<Self, String> {
        let (protocol, number, name) = match text.split_once('.') {
            None if text == "id" => (Protocol::Oip, 3, None),
            Some(("parameters", name)) if !name.is_empty() => (Protocol::Oip, 4, Some(name)),
            Some(("meta", "puid")) => (Protocol::Seldon, 1, None),
            Some(("model_spec", "signature_name")) => (Protocol::Tfs, 3, None),
            _ => match text.strip_prefix("meta.tags.") {
                Some(name) if !name.is_empty() => (Protocol::Seldon, 2, Some(name)),
                _ => return Err(format!("hash_field {text:?} is none of {FORMS}")),
            },
        };
        let plan = |method: &Method| {
            let has = method.kind == Kind::Predict
                && method.protocol == protocol
                && !method.plan.is_empty();
            has.then(|| {
                let plan = FieldPlan::new(&method.plan.key_holder, protocol, number, name);
                plan.map(Arc::new)
                    .map_err(|error| format!("hash_field {text:?} of {}: {error}", method.path))
            })
            .transpose()
        };
        let plans: Result<_, String> = method::all().iter().map(plan).collect();
        Ok(Self { plans: plans? })
    }

    /// The search in a call's first message; none where its method has no such field.
    pub fn search(&self, method: &Method, encoding: Option<&[u8]>) -> Option<FieldSearch> {
        let plan = self.plans.get(method.id)?.clone()?;
        Some(FieldSearch {
            plan,
            // Sizes are checked elsewhere.
            frames: Frames::new(usize::MAX),
            scanner: Scanner::default(),
            encoding: encoding.map(Into::into),
            inflater: None,
            left: LIMIT,
            found: Found::default(),
            is_over: false,
        })
    }
}

// === impl FieldPlan ===

impl FieldPlan {
    /// A field beside the route key: in the message that is behind the field numbers of `holder`.
    ///
    /// Field numbers: map entries have key = 1 and value = 2; InferParameter has int64_param = 2, string_param = 3,
    /// double_param = 4, uint64_param = 5; google.protobuf.Value has number_value = 2, string_value = 3.
    fn new(
        holder: &[u32],
        protocol: Protocol,
        number: u32,
        name: Option<&str>,
    ) -> Result<Self, &'static str> {
        use FieldKind::{Bytes, Fixed64, Message, Varint};
        let mut shape = Shape::default();
        let mut parent = ROOT;
        for number in holder {
            parent = shape.field(parent, *number, Message)?;
        }
        let target = match name {
            None => Target::Text(shape.field(parent, number, Bytes)?),
            Some(wanted) => {
                let entry = shape.field(parent, number, Message)?;
                let name = shape.field(entry, 1, Bytes)?;
                let value = shape.field(entry, 2, Message)?;
                let text = shape.field(value, 3, Bytes)?;
                let is_oip = protocol == Protocol::Oip;
                let number = shape.field(value, if is_oip { 4 } else { 2 }, Fixed64)?;
                let mut integer = |number| is_oip.then(|| shape.field(value, number, Varint));
                Target::Entry {
                    entry,
                    name,
                    wanted: wanted.into(),
                    text,
                    number,
                    signed: integer(2).transpose()?,
                    unsigned: integer(5).transpose()?,
                }
            }
        };
        Ok(Self { shape, target })
    }
}

// === impl FieldSearch ===

impl FieldSearch {
    /// Read on in the request's body. A message that cannot be read has no field; what is wrong with it is for others
    /// to say.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        while !self.is_over {
            match self.frames.next(&mut chunk) {
                Ok(None) => return,
                Ok(Some(event)) => self.event(event),
                Err(_) => self.is_over = true,
            }
        }
    }

    /// Whether no more needs to be read.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Hash of the field's value; none where the message has none, or an empty one.
    pub fn hash(&self) -> Option<u64> {
        self.found.hash
    }

    fn event(&mut self, event: Event<'_>) {
        let is_read = match event {
            Event::Start { compressed, .. } => {
                if compressed {
                    let inflater = Inflater::new(self.encoding.as_deref(), None);
                    self.inflater = inflater.ok().map(Box::new);
                }
                !compressed || self.inflater.is_some()
            }
            Event::Data(data) => self.data(data),
            Event::End => false,
        };
        self.is_over = !is_read || self.left == 0 || self.found.hash.is_some();
    }

    fn data(&mut self, data: &[u8]) -> bool {
        let mut sink = FieldSink {
            target: &self.plan.target,
            found: &mut self.found,
        };
        let data = match &mut self.inflater {
            None => data,
            Some(inflater) => match inflater.feed(data) {
                Ok(inflated) => inflated,
                Err(_) => return false,
            },
        };
        let data = &data[..data.len().min(self.left)];
        self.left -= data.len();
        self.scanner.feed(&self.plan.shape, data, &mut sink).is_ok()
    }
}

// === impl FieldSink ===

impl Sink for FieldSink<'_> {
    type Error = Malformed;

    fn enter(&mut self, message: FieldId, _: Span) -> Result<(), Malformed> {
        if matches!(self.target, Target::Entry { entry, .. } if *entry == message) {
            self.found.is_wanted = false;
            self.found.value = None;
        }
        Ok(())
    }

    fn exit(&mut self, message: FieldId) -> Result<(), Malformed> {
        let is_entry = matches!(self.target, Target::Entry { entry, .. } if *entry == message);
        if is_entry && self.found.is_wanted {
            self.found.hash = self.found.hash.or(self.found.value);
        }
        Ok(())
    }

    fn value(&mut self, field: FieldId, value: Value<'_>, _: Span) -> Result<(), Malformed> {
        let found = &mut *self.found;
        match (self.target, value) {
            (Target::Text(text), Value::Bytes(bytes)) if *text == field => {
                found.hash = found.hash.or(of_text(bytes));
            }
            (Target::Entry { name, wanted, .. }, Value::Bytes(bytes)) if *name == field => {
                found.is_wanted = bytes == wanted.as_bytes();
            }
            (Target::Entry { text, .. }, Value::Bytes(bytes)) if *text == field => {
                found.value = of_text(bytes);
            }
            (Target::Entry { number, .. }, Value::Fixed64(bits)) if *number == field => {
                found.value = of_text(f64::from_bits(bits).to_string().as_bytes());
            }
            (Target::Entry { signed, .. }, Value::Varint(bits)) if *signed == Some(field) => {
                // The wire holds its two's complement.
                found.value = of_text((bits as i64).to_string().as_bytes());
            }
            (Target::Entry { unsigned, .. }, Value::Varint(bits)) if *unsigned == Some(field) => {
                found.value = of_text(bits.to_string().as_bytes());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The hash that the same text has in metadata. A number has that of its decimal digits.
fn of_text(bytes: &[u8]) -> Option<u64> {
    (!bytes.is_empty()).then(|| stable_hash(bytes))
}

#[cfg(test)]
#[path = "hash_field_tests.rs"]
mod tests;
