//! What is seen from outside on the admin port: the pages, and how counters become metrics. Only `program` puts it beside
//! a request path.

pub mod http;
pub mod metrics;
