//! Calls of gRPC that the process makes to itself for requests over HTTP: with what metadata, how their answers are read,
//! whole or as a stream, and gRPC-Web, which is passed through.

pub mod caller;
pub mod metadata;
pub mod streamed;
pub mod web;
