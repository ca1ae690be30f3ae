//! The manners of a web server: bodies within limits, codings, cross-origin pages, paths and data URIs, answers and
//! problems. Knows no form and no model.

pub mod body;
pub mod coding;
pub mod cors;
pub mod data_uri;
pub mod path;
pub mod reply;
pub mod sending;
