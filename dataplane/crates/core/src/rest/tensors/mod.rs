//! Tensors and their JSON: a reader without a tree, elements and their types, parameters, a model's signature, and what a
//! worker has learnt of signatures. Knows no HTTP and no form.

mod datatype;
mod elements;
pub mod json;
pub mod known;
pub mod numbers;
pub mod parameters;
pub mod result;
pub mod signature;
mod tensor;
mod writer;

pub use datatype::Datatype;
pub use elements::Elements;
pub use tensor::{Named, Tensor, check_nesting};
pub use writer::{NotFinite, Strings, Writer, string};
