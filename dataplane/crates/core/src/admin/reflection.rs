//! Server reflection (grpc.reflection.v1 and v1alpha), answered from the descriptors that the control
//! plane hands over. Never proxied: the descriptors are ours, and seldon-core's wrapper with its one thread
//! would hang on an open reflection stream.

use prost::Message;

use crate::grpc::status::Code;

mod index;
mod messages;

use index::Index;
use messages::{
    Answer, ExtensionNumbers, Failure, Files, Query, Request, Response, Service, Services,
};

/// Full names of the two services, which take and give the same messages.
pub const SERVICES: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// What reflection says about this server.
#[derive(Debug)]
pub struct Reflection {
    index: Index,
    /// Services that are offered, in the order given.
    offered: Vec<String>,
}

// === impl Reflection ===

impl Reflection {
    /// Index a serialized google.protobuf.FileDescriptorSet.
    ///
    /// Args: `services`: full names of what is offered here; only these are listed, whatever else the set
    /// describes.
    /// Errors: the set does not parse, lacks an imported file, or lacks a service; the text names it.
    pub fn new(descriptor_set: &[u8], services: &[&str]) -> Result<Self, String> {
        let index = Index::new(descriptor_set)?;
        if let Some(missing) = services
            .iter()
            .find(|name| !index.services().iter().any(|known| known == *name))
        {
            return Err(format!("descriptor set has no service {missing}"));
        }
        let offered = services.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { index, offered })
    }

    /// Answer one serialized ServerReflectionRequest with a serialized ServerReflectionResponse.
    pub fn answer(&self, request_message: &[u8]) -> Vec<u8> {
        let (request, answer) = match Request::decode(request_message) {
            Ok(request) => {
                let answer = self.look_up(&request);
                (Some(request), answer)
            }
            Err(error) => {
                let text = format!("request does not parse: {error}");
                (None, failure(Code::InvalidArgument, text))
            }
        };
        let response = Response {
            valid_host: request.as_ref().map(|r| r.host.clone()).unwrap_or_default(),
            original_request: request,
            answer: Some(answer),
        };
        response.encode_to_vec()
    }

    fn look_up(&self, request: &Request) -> Answer {
        let Some(query) = &request.query else {
            return failure(
                Code::InvalidArgument,
                "request asks for nothing: set message_request".into(),
            );
        };
        match query {
            Query::FileByFilename(name) => {
                self.files(self.index.file(name), || format!("file {name}"))
            }
            Query::FileContainingSymbol(name) => {
                self.files(self.index.symbol(name), || format!("symbol {name}"))
            }
            Query::FileContainingExtension(extension) => {
                let (message, number) = (&extension.containing_type, extension.extension_number);
                self.files(self.index.extension(message, number), || {
                    format!("extension {number} of {message}")
                })
            }
            Query::AllExtensionNumbersOfType(message) => {
                match self.index.extension_numbers(message) {
                    Some(numbers) => Answer::ExtensionNumbers(ExtensionNumbers {
                        base_type_name: message.clone(),
                        numbers,
                    }),
                    None => not_found(&format!("message {message}")),
                }
            }
            Query::ListServices(_) => {
                let services = self.offered.iter().cloned();
                Answer::Services(Services {
                    services: services.map(|name| Service { name }).collect(),
                })
            }
        }
    }

    fn files(&self, file: Option<usize>, what: impl FnOnce() -> String) -> Answer {
        match file {
            Some(file) => Answer::Files(Files {
                files: self.index.with_imports(file),
            }),
            None => not_found(&what()),
        }
    }
}

fn not_found(what: &str) -> Answer {
    failure(Code::NotFound, format!("{what} is not known here"))
}

fn failure(code: Code, message: String) -> Answer {
    Answer::Error(Failure {
        code: code as i32,
        message,
    })
}

#[cfg(test)]
#[path = "reflection/reflection_tests.rs"]
mod tests;
