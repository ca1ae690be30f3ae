//! The data plane of dl-inference. It makes each request happen; what should be true (configuration,
//! endpoints, releases) is decided by the Python control plane, which hands it over as JSON documents.
//! This crate knows no Python.
#![forbid(unsafe_code)]

pub mod admin;
pub mod balance;
pub mod config;
pub mod error;
pub mod grpc;
pub mod net;
pub mod proxy;
pub mod worker;
