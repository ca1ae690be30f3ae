//! The data plane of dl-inference. It makes each request happen; what should be true (configuration,
//! endpoints, releases) is decided by the Python control plane, which hands it over as JSON documents.
//! This crate knows no Python.
//!
//! Rooms, from the bottom up (tests/project/test_layout_rust.py says who may use whom): `code`, `headers` (lists of fields), `balance`, `error`, `config`,
//! `notice` (lines for the log), `stats`, `sync` · `grpc`, `net` (sockets, connections, streams) · `call` (the answering end of one call) · `callers` (who may call what, and how much) · `local` (what a
//! program answers itself) · `proxy` and `worker` (the two request paths) · `admin` (what is shown) · `program`.
#![forbid(unsafe_code)]

mod admin;
mod balance;
mod call;
mod callers;
mod chunks;
mod code;
mod config;
mod error;
mod grpc;
mod headers;
mod local;
mod net;
mod notice;
mod program;
mod proxy;
mod rest;
mod spans;
mod stats;
mod sync;
#[cfg(test)]
mod testing;
mod worker;

pub use balance::NAMES as POLICIES;
pub use callers::{CallersConfig, rule as callers_rule};
pub use code::Code;
pub use config::{ProxyConfig, StateConfig};
pub use error::{Row as ErrorRow, TABLE as ERRORS};
pub use net::inherited::Inherited;
pub use net::tls::make_certificates;
pub use notice::Notice;
pub use program::{Control, ModelServer, Proxy};
pub use proxy::orders::{Done, Order};
pub use proxy::state::Part;

/// What the simulator runs in virtual time: the balancing of the request path.
pub mod balancing {
    pub use crate::balance::{
        Ask, Balancer, Done, Entry, Nanos, Outcome, Picked, Refusal, Settings, View,
    };
    pub use crate::code::Code;
    pub use crate::proxy::budget::RetryBudget;
}

/// What the model server's requests are made of, and their answers.
pub mod model {
    pub use crate::worker::codec::oip::InferOutput;
    pub use crate::worker::codec::{
        Answer, DType, MAX_DEPTH, Payload, TensorRef, TfData, TfDataRef, TfTensor, Value,
    };
    pub use crate::worker::queue::Call;
    pub use crate::worker::reply::{Content, ReplySlot, Slots, Stages};
    pub use crate::worker::taken::Handed;
}

/// What the fuzz targets (`dataplane/crates/fuzz`) call: the parsers of bytes that others send.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::call::head;
    pub use crate::callers::{jwks, replays, signing, token_cache, tokens};
    pub use crate::error::{Error, ErrorKind};
    pub use crate::grpc::deadline::{GRPC_TIMEOUT, parse_timeout, put_timeout};
    pub use crate::grpc::framing::{PREFIX, prefix};
    pub use crate::grpc::load_report::{LOAD_REPORT, LoadReport};
    pub use crate::headers::{Headers, Token};
    pub use crate::proxy::method::{self, Method};
    pub use crate::proxy::route_key::{
        Progress, RouteKey, RouteKeyScanner, insert_version, replace_version,
    };
    pub use crate::rest::fuzzing as rest;
}
