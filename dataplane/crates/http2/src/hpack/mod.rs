//! Header compression (RFC 7541). Whole blocks only: the connection joins CONTINUATION frames before.
//!
//! The tables take memory as fields enter them, none before; what never changes (Huffman's codes, the static table) is
//! shared by all connections.

#[cfg(test)]
#[path = "property_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "bomb_tests.rs"]
mod bomb_tests;
#[cfg(test)]
#[path = "oracle_tests.rs"]
mod oracle_tests;

mod decode;
mod encode;
mod huffman;
mod index;
mod integer;
mod literal;
mod policy;
mod sink;
mod static_table;
mod table;

pub use decode::{Decoded, Decoder, Most};
pub use encode::Encoder;

/// The size of a peer's table until its SETTINGS say otherwise (RFC 9113 section 6.5.2).
pub const DEFAULT_TABLE_SIZE: usize = 4096;

/// The block breaks RFC 7541: a COMPRESSION_ERROR of the connection, as the tables can't be in step any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;
