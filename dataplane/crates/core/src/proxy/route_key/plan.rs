//! Where a method's route key is: the paths of `protos/methods.toml`, turned into a shape for the scanner
//! and a role for each field of it.

use crate::grpc::wire::{FieldId, FieldKind, ROOT, Shape};

/// Most paths of one key.
pub const MAX_KEYS: usize = 2;

/// What a field of the shape is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// On the way to others.
    Inner,
    /// The key path at this position, a string.
    Key(usize),
    Version,
    Label,
    /// A google.protobuf.Int64Value that holds the version.
    VersionWrapper,
    VersionNumber,
    /// An entry of map<string, google.protobuf.Value>, and what is in it.
    TagEntry,
    TagName,
    TagNumber,
    TagText,
    /// A kind of google.protobuf.Value that is no key.
    TagOther,
}

/// How a message says a version: the number of the field, beside the key, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum VersionField {
    Text(u32),
    /// A google.protobuf.Int64Value.
    Number(u32),
}

/// Compiled key, version and label paths of one method.
#[derive(Debug)]
pub struct Plan {
    pub(super) shape: Shape,
    /// By field id.
    pub(super) roles: Vec<Role>,
    /// The tag of each key path; empty where the path is a string field.
    pub(super) tags: Vec<String>,
    /// The message at whose end key, version and label are known; the root where that is the whole request.
    pub(super) decided_by: FieldId,
    /// None where no version and no label can be said.
    pub(super) version_field: Option<VersionField>,
    pub(super) label_field: Option<u32>,
    /// The numbers of the fields that lead to the message with the version, which is `decided_by`.
    pub(super) holder: Vec<u32>,
    /// The numbers of the fields that lead to the message with the key.
    pub key_holder: Vec<u32>,
}

impl Plan {
    /// Compile paths such as `1.1`, `2.2[model]`, `1.2:int64`.
    ///
    /// Errors: what is wrong with which path.
    pub fn new(
        keys: &[String],
        version: Option<&str>,
        label: Option<&str>,
    ) -> Result<Self, String> {
        let mut plan = Self {
            shape: Shape::default(),
            roles: vec![Role::Inner],
            tags: Vec::new(),
            decided_by: ROOT,
            version_field: None,
            label_field: None,
            holder: Vec::new(),
            key_holder: Vec::new(),
        };
        if let Some(path) = keys.first() {
            plan.key_holder = holder(path.split('[').next().unwrap_or_default());
        }
        if keys.len() > MAX_KEYS {
            return Err(format!(
                "{} key paths, at most {MAX_KEYS} are possible",
                keys.len()
            ));
        }
        if keys.is_empty() && (version.is_some() || label.is_some()) {
            return Err("a version or label without a key".to_owned());
        }
        if label.is_some() && version.is_none() {
            return Err("a label without a version".to_owned());
        }
        for (index, path) in keys.iter().enumerate() {
            plan.key(index, path)
                .map_err(|error| format!("key {path:?}: {error}"))?;
        }
        if plan.decided_by == ROOT
            && (keys.len() > 1 || plan.tags.iter().any(|tag| !tag.is_empty()))
        {
            // Which of them counts would be known only at the request's end, after all its bytes were held.
            return Err(
                "several keys, or tags, must be in a message inside of the request".to_owned(),
            );
        }
        if let Some(path) = version {
            plan.version(path)
                .map_err(|error| format!("version {path:?}: {error}"))?;
        }
        if let Some(path) = label {
            plan.label(path)
                .map_err(|error| format!("label {path:?}: {error}"))?;
        }
        Ok(plan)
    }

    /// Whether the method names no model in its request.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// Whether the request can ask for a version or label.
    pub fn has_version(&self) -> bool {
        self.version_field.is_some()
    }

    /// Whether one message may well hold the key several times: `decided_by` is in a field that repeats.
    pub fn is_repeated(&self) -> bool {
        // A message inside of the request is there once; what is in it may be there several times.
        self.holder.len() > 1
    }

    pub(super) fn role(&self, field: FieldId) -> Role {
        self.roles[usize::from(field)]
    }

    fn key(&mut self, index: usize, path: &str) -> Result<(), String> {
        let parent = match path.strip_suffix(']').and_then(|path| path.split_once('[')) {
            Some((path, tag)) if !tag.is_empty() => {
                self.tags.push(tag.to_owned());
                self.tag_map(path)?
            }
            Some(_) => return Err("the tag has no name".to_owned()),
            None => {
                self.tags.push(String::new());
                self.string(path, Role::Key(index))?
            }
        };
        if index > 0 && parent != self.decided_by {
            return Err("is in another message than the path before".to_owned());
        }
        self.decided_by = parent;
        Ok(())
    }

    fn label(&mut self, path: &str) -> Result<(), String> {
        let (parent, number) = self.parent(path)?;
        self.field(parent, number, FieldKind::Bytes, Role::Label)?;
        self.beside_key(parent)?;
        self.label_field = Some(number);
        Ok(())
    }

    fn version(&mut self, path: &str) -> Result<(), String> {
        let Some(path) = path.strip_suffix(":int64") else {
            let (parent, number) = self.parent(path)?;
            self.field(parent, number, FieldKind::Bytes, Role::Version)?;
            self.version_field = Some(VersionField::Text(number));
            self.holder = holder(path);
            return self.beside_key(parent);
        };
        let (parent, number) = self.parent(path)?;
        self.beside_key(parent)?;
        self.version_field = Some(VersionField::Number(number));
        self.holder = holder(path);
        let wrapper = self.field(parent, number, FieldKind::Message, Role::VersionWrapper)?;
        self.field(wrapper, 1, FieldKind::Varint, Role::VersionNumber)?;
        Ok(())
    }

    /// Elsewhere it could come after the route was taken.
    fn beside_key(&self, parent: FieldId) -> Result<(), String> {
        if parent == self.decided_by {
            Ok(())
        } else {
            Err("is in another message than the key".to_owned())
        }
    }

    /// Add a string field; return the message that holds it.
    fn string(&mut self, path: &str, role: Role) -> Result<FieldId, String> {
        let (parent, number) = self.parent(path)?;
        self.field(parent, number, FieldKind::Bytes, role)?;
        Ok(parent)
    }

    /// Add a map<string, google.protobuf.Value>; return the message that holds it.
    ///
    /// Field numbers: map entries have key = 1 and value = 2; Value has null_value = 1, number_value = 2,
    /// string_value = 3, bool_value = 4, struct_value = 5, list_value = 6.
    fn tag_map(&mut self, path: &str) -> Result<FieldId, String> {
        let (parent, number) = self.parent(path)?;
        let entry = self.field(parent, number, FieldKind::Message, Role::TagEntry)?;
        self.field(entry, 1, FieldKind::Bytes, Role::TagName)?;
        let value = self.field(entry, 2, FieldKind::Message, Role::Inner)?;
        self.field(value, 1, FieldKind::Varint, Role::TagOther)?;
        self.field(value, 2, FieldKind::Fixed64, Role::TagNumber)?;
        self.field(value, 3, FieldKind::Bytes, Role::TagText)?;
        self.field(value, 4, FieldKind::Varint, Role::TagOther)?;
        self.field(value, 5, FieldKind::Bytes, Role::TagOther)?;
        self.field(value, 6, FieldKind::Bytes, Role::TagOther)?;
        Ok(parent)
    }

    /// Add the messages on the way to the last field of `path`; return the message that holds it, and its number.
    fn parent(&mut self, path: &str) -> Result<(FieldId, u32), String> {
        let mut numbers = Vec::new();
        for part in path.split('.') {
            match part.parse::<u32>() {
                Ok(number @ 1..=0x1fff_ffff) => numbers.push(number),
                _ => return Err(format!("{part:?} is not a field number")),
            }
        }
        let last = numbers.pop().ok_or("is empty")?;
        let mut message = ROOT;
        for number in numbers {
            message = self.field(message, number, FieldKind::Message, Role::Inner)?;
        }
        Ok((message, last))
    }

    fn field(
        &mut self,
        parent: FieldId,
        number: u32,
        kind: FieldKind,
        role: Role,
    ) -> Result<FieldId, String> {
        let field = self.shape.field(parent, number, kind)?;
        match self.roles.get(usize::from(field)) {
            None => self.roles.push(role),
            Some(known) if *known == role => {}
            Some(_) => return Err("one field has two roles".to_owned()),
        }
        Ok(field)
    }
}

/// All numbers of a path, which parses, but the last.
fn holder(path: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = path.split('.').flat_map(str::parse).collect();
    numbers.pop();
    numbers
}
