//! What gRPC puts on top of HTTP/2: message framing, status, metadata, deadlines, and the protobuf wire format.

pub mod deadline;
pub mod framing;
pub mod load_report;
pub mod metadata;
pub mod status;
pub mod trace_context;
pub mod wire;
