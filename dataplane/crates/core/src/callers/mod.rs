//! Who calls, and how much they may ask for.

mod bucket;
#[cfg(test)]
mod bucket_tests;
pub mod limits;
