//! The messages of the services that are answered here, compiled from protos/ by build.rs.

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, ErrorKind};

// It has more messages than are used, and protobuf's own names.
#[allow(dead_code, clippy::enum_variant_names)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

// It has more messages than are used, and protobuf's own names.
#[allow(dead_code, clippy::enum_variant_names)]
pub mod reflection {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
}

// It has more messages than are used, and protobuf's own names.
#[allow(dead_code, clippy::enum_variant_names)]
pub mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

pub mod seldon {
    // It has more messages than are used, and protobuf's own names and sizes.
    #[allow(dead_code, clippy::enum_variant_names, clippy::large_enum_variant)]
    pub mod protos {
        include!(concat!(env!("OUT_DIR"), "/seldon.protos.rs"));
    }
}

// It has more messages than are used, and protobuf's own names and sizes.
#[allow(dead_code, clippy::enum_variant_names, clippy::large_enum_variant)]
pub mod tensorflow {
    include!(concat!(env!("OUT_DIR"), "/tensorflow.rs"));

    pub mod error {
        include!(concat!(env!("OUT_DIR"), "/tensorflow.error.rs"));
    }

    // It has more messages than are used.
    #[allow(dead_code)]
    pub mod serving {
        include!(concat!(env!("OUT_DIR"), "/tensorflow.serving.rs"));
    }
}

/// Parse a request message.
///
/// # Errors
/// `bad_request`.
pub fn parse<T: Message + Default>(request: Bytes) -> Result<T, Error> {
    T::decode(request).map_err(|error| {
        let text = format!("request does not parse: {error}");
        Error::new(ErrorKind::BadRequest, text)
    })
}
