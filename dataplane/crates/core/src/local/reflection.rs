//! Server reflection (grpc.reflection.v1 and v1alpha), answered from the descriptors that the control
//! plane hands over. Never proxied: the descriptors are ours, and seldon-core's wrapper with its one thread
//! would hang on an open reflection stream.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::messages::reflection::server_reflection_request::MessageRequest as Query;
use super::messages::reflection::server_reflection_response::MessageResponse as Answer;
use super::messages::reflection::{
    ErrorResponse, ExtensionNumberResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};
use crate::code::Code;

mod index;

use index::Index;

/// Number of `file_descriptor_response` among the answers: those are put behind the rest by hand, so that the files are
/// not copied.
const FILES_FIELD: u32 = 4;

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

    /// Answer one serialized ServerReflectionRequest with a serialized ServerReflectionResponse, in two parts of which
    /// the second, large one is shared by all answers.
    pub fn answer(&self, request_message: &[u8]) -> (Vec<u8>, Bytes) {
        let (request, found) = match ServerReflectionRequest::decode(request_message) {
            Ok(request) => {
                let found = self.look_up(&request);
                (Some(request), found)
            }
            Err(error) => {
                let text = format!("request does not parse: {error}");
                (None, Found::Other(failure(Code::InvalidArgument, text)))
            }
        };
        let mut response = ServerReflectionResponse {
            valid_host: request.as_ref().map(|r| r.host.clone()).unwrap_or_default(),
            original_request: request,
            message_response: None,
        };
        match found {
            Found::File(file) => {
                let files = self.index.response(file);
                let mut message = response.encode_to_vec();
                encode_key(FILES_FIELD, WireType::LengthDelimited, &mut message);
                encode_varint(files.len() as u64, &mut message);
                (message, files)
            }
            Found::Other(answer) => {
                response.message_response = Some(answer);
                (response.encode_to_vec(), Bytes::new())
            }
        }
    }

    fn look_up(&self, request: &ServerReflectionRequest) -> Found {
        let Some(query) = &request.message_request else {
            let text = "request asks for nothing: set message_request".to_owned();
            return Found::Other(failure(Code::InvalidArgument, text));
        };
        match query {
            Query::FileByFilename(name) => {
                Found::file(self.index.file(name), || format!("file {name}"))
            }
            Query::FileContainingSymbol(name) => {
                Found::file(self.index.symbol(name), || format!("symbol {name}"))
            }
            Query::FileContainingExtension(extension) => {
                let (message, number) = (&extension.containing_type, extension.extension_number);
                Found::file(self.index.extension(message, number), || {
                    format!("extension {number} of {message}")
                })
            }
            Query::AllExtensionNumbersOfType(message) => {
                Found::Other(self.extension_numbers(message))
            }
            Query::ListServices(_) => {
                let services = self.offered.iter().cloned();
                let services = services.map(|name| ServiceResponse { name });
                let service = services.collect();
                Found::Other(Answer::ListServicesResponse(ListServiceResponse {
                    service,
                }))
            }
        }
    }

    fn extension_numbers(&self, message: &str) -> Answer {
        match self.index.extension_numbers(message) {
            Some(extension_number) => {
                Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: message.to_owned(),
                    extension_number,
                })
            }
            None => not_found(&format!("message {message}")),
        }
    }
}

/// What answers a request.
enum Found {
    /// Position of a file.
    File(usize),
    Other(Answer),
}

impl Found {
    fn file(position: Option<usize>, what: impl FnOnce() -> String) -> Self {
        position.map_or_else(|| Self::Other(not_found(&what())), Self::File)
    }
}

fn not_found(what: &str) -> Answer {
    failure(Code::NotFound, format!("{what} is not known here"))
}

fn failure(code: Code, message: String) -> Answer {
    Answer::ErrorResponse(ErrorResponse {
        error_code: code as i32,
        error_message: message,
    })
}

#[cfg(test)]
#[path = "reflection/reflection_tests.rs"]
mod tests;
