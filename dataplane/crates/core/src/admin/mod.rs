//! What is seen from outside: health, reflection, metrics, status.

pub mod access_log;
pub mod grpc;
pub mod health;
pub mod http;
pub mod metrics;
pub mod reflection;
