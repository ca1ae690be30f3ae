//! Finds files of a FileDescriptorSet by name, by symbol and by extension. Files are kept as they came:
//! decoding and encoding them again would lose custom options.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
};

use crate::local::messages::reflection::FileDescriptorResponse;

/// google.protobuf.FileDescriptorSet with its files left serialized.
#[derive(Clone, PartialEq, Message)]
struct SerializedSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

#[derive(Debug)]
struct File {
    serialized: Bytes,
    /// Positions of the files that it imports.
    imports: Vec<usize>,
    /// The file with everything that it imports, as a serialized FileDescriptorResponse; made when first
    /// asked for, and shared by all answers, however slowly their callers read.
    response: OnceLock<Bytes>,
}

/// The files of one descriptor set.
#[derive(Debug, Default)]
pub struct Index {
    files: Vec<File>,
    by_name: HashMap<String, usize>,
    /// Full names of packages' contents without a leading dot: messages, fields, oneofs, enums, enum
    /// values, services, methods, extensions.
    by_symbol: HashMap<String, usize>,
    /// Full name of each message -> number of each of its extensions -> the file that declares it.
    extensions: HashMap<String, BTreeMap<i32, usize>>,
    services: Vec<String>,
}

// === impl Index ===

impl Index {
    /// Read a serialized FileDescriptorSet that holds every file it imports.
    pub fn new(descriptor_set: &[u8]) -> Result<Self, String> {
        let set = SerializedSet::decode(descriptor_set)
            .map_err(|e| format!("descriptor set does not parse: {e}"))?;
        let mut index = Self::default();
        let mut decoded = Vec::with_capacity(set.files.len());
        for serialized in &set.files {
            let file = FileDescriptorProto::decode(serialized.as_ref()).map_err(|e| {
                format!(
                    "file {} of the descriptor set does not parse: {e}",
                    decoded.len()
                )
            })?;
            index.by_name.insert(file.name().to_owned(), decoded.len());
            decoded.push(file);
        }
        for (position, (file, serialized)) in decoded.iter().zip(set.files).enumerate() {
            let imports = index.imports(file)?;
            index.files.push(File {
                serialized,
                imports,
                response: OnceLock::new(),
            });
            index.add_file(position, file);
        }
        Ok(index)
    }

    /// Position of the file with this name.
    pub fn file(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Position of the file that defines this full name.
    pub fn symbol(&self, name: &str) -> Option<usize> {
        // Some clients write names as descriptors do, with a dot in front.
        self.by_symbol
            .get(name.strip_prefix('.').unwrap_or(name))
            .copied()
    }

    /// Position of the file that declares the extension of a message with this number.
    pub fn extension(&self, message: &str, number: i32) -> Option<usize> {
        self.extensions.get(message)?.get(&number).copied()
    }

    /// Numbers of the extensions of a message, ascending; `None` when there is no such message.
    pub fn extension_numbers(&self, message: &str) -> Option<Vec<i32>> {
        Some(self.extensions.get(message)?.keys().copied().collect())
    }

    /// Full names of all services in the set.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// A serialized FileDescriptorResponse of a file and everything that it imports.
    pub fn response(&self, file: usize) -> Bytes {
        let make = || {
            let file_descriptor_proto = self.with_imports(file);
            let response = FileDescriptorResponse {
                file_descriptor_proto,
            };
            Bytes::from(response.encode_to_vec())
        };
        self.files[file].response.get_or_init(make).clone()
    }

    /// A file and everything that it imports, itself first, each once.
    fn with_imports(&self, file: usize) -> Vec<Bytes> {
        let mut order = vec![file];
        let mut seen = vec![false; self.files.len()];
        seen[file] = true;
        let mut next = 0;
        while let Some(&position) = order.get(next) {
            next += 1;
            for &import in &self.files[position].imports {
                if !std::mem::replace(&mut seen[import], true) {
                    order.push(import);
                }
            }
        }
        order
            .into_iter()
            .map(|position| self.files[position].serialized.clone())
            .collect()
    }

    fn imports(&self, file: &FileDescriptorProto) -> Result<Vec<usize>, String> {
        let found = |name: &String| {
            self.file(name).ok_or_else(|| {
                format!(
                    "descriptor set has no {name}, which {} imports",
                    file.name()
                )
            })
        };
        file.dependency.iter().map(found).collect()
    }

    fn add_file(&mut self, position: usize, file: &FileDescriptorProto) {
        let package = file.package();
        for message in &file.message_type {
            self.add_message(position, package, message);
        }
        for an_enum in &file.enum_type {
            self.add_enum(position, package, an_enum);
        }
        for extension in &file.extension {
            self.add_extension(position, package, extension);
        }
        for service in &file.service {
            self.add_service(position, package, service);
        }
    }

    fn add_message(&mut self, position: usize, scope: &str, message: &DescriptorProto) {
        let name = self.add(position, scope, message.name());
        self.extensions.entry(name.clone()).or_default();
        let fields = message.field.iter().map(FieldDescriptorProto::name);
        for member in fields.chain(message.oneof_decl.iter().map(|oneof| oneof.name())) {
            self.add(position, &name, member);
        }
        for nested in &message.nested_type {
            self.add_message(position, &name, nested);
        }
        for an_enum in &message.enum_type {
            self.add_enum(position, &name, an_enum);
        }
        for extension in &message.extension {
            self.add_extension(position, &name, extension);
        }
    }

    fn add_enum(&mut self, position: usize, scope: &str, an_enum: &EnumDescriptorProto) {
        let name = self.add(position, scope, an_enum.name());
        for value in &an_enum.value {
            // protobuf puts enum values beside their enum; people write them below it.
            self.add(position, scope, value.name());
            self.add(position, &name, value.name());
        }
    }

    fn add_extension(&mut self, position: usize, scope: &str, extension: &FieldDescriptorProto) {
        self.add(position, scope, extension.name());
        let extended = extension.extendee().trim_start_matches('.').to_owned();
        let numbers = self.extensions.entry(extended).or_default();
        numbers.insert(extension.number(), position);
    }

    fn add_service(&mut self, position: usize, scope: &str, service: &ServiceDescriptorProto) {
        let name = self.add(position, scope, service.name());
        for method in &service.method {
            self.add(position, &name, method.name());
        }
        self.services.push(name);
    }

    fn add(&mut self, position: usize, scope: &str, name: &str) -> String {
        let full = if scope.is_empty() {
            name.to_owned()
        } else {
            format!("{scope}.{name}")
        };
        self.by_symbol.insert(full.clone(), position);
        full
    }
}
