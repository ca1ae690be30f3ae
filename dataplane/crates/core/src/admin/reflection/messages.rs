//! Messages of grpc.reflection; v1 and v1alpha have the same numbers and types.
//!
//! Source: grpc/grpc-proto, grpc/reflection/v1/reflection.proto.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(oneof = "Query", tags = "3, 4, 5, 6, 7")]
    pub query: Option<Query>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Query {
    #[prost(string, tag = "3")]
    FileByFilename(String),
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    #[prost(message, tag = "5")]
    FileContainingExtension(Extension),
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    #[prost(string, tag = "1")]
    pub containing_type: String,
    #[prost(int32, tag = "2")]
    pub extension_number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    #[prost(string, tag = "1")]
    pub valid_host: String,
    #[prost(message, optional, tag = "2")]
    pub original_request: Option<Request>,
    /// Answers with files are put behind the rest by hand, so that the files are not copied.
    #[prost(oneof = "Answer", tags = "5, 6, 7")]
    pub answer: Option<Answer>,
}

/// Number of `file_descriptor_response` among the answers.
pub const FILES_FIELD: u32 = 4;

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    #[prost(message, tag = "5")]
    ExtensionNumbers(ExtensionNumbers),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Error(Failure),
}

/// FileDescriptorResponse.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Files {
    /// Serialized google.protobuf.FileDescriptorProto.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub files: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExtensionNumbers {
    #[prost(string, tag = "1")]
    pub base_type_name: String,
    #[prost(int32, repeated, tag = "2")]
    pub numbers: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Services {
    #[prost(message, repeated, tag = "1")]
    pub services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Failure {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}
