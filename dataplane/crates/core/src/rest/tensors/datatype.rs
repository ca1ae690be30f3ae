//! The types of elements.

/// An element type, by its name in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// (type, name, bytes of an element; 0 where they differ)
const TABLE: [(Datatype, &str, usize); 14] = [
    (Datatype::Bool, "BOOL", 1),
    (Datatype::Uint8, "UINT8", 1),
    (Datatype::Uint16, "UINT16", 2),
    (Datatype::Uint32, "UINT32", 4),
    (Datatype::Uint64, "UINT64", 8),
    (Datatype::Int8, "INT8", 1),
    (Datatype::Int16, "INT16", 2),
    (Datatype::Int32, "INT32", 4),
    (Datatype::Int64, "INT64", 8),
    (Datatype::Fp16, "FP16", 2),
    (Datatype::Bf16, "BF16", 2),
    (Datatype::Fp32, "FP32", 4),
    (Datatype::Fp64, "FP64", 8),
    (Datatype::Bytes, "BYTES", 0),
];

// === impl Datatype ===

impl Datatype {
    pub fn find(name: &str) -> Option<Self> {
        let row = TABLE.iter().find(|(_, known, _)| *known == name);
        row.map(|(datatype, _, _)| *datatype)
    }

    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Bytes of one element; 0 where they differ.
    pub fn size(self) -> usize {
        TABLE[self as usize].2
    }

    /// Every type.
    pub fn all() -> [Self; TABLE.len()] {
        TABLE.map(|(datatype, _, _)| datatype)
    }

    /// The names that there are, for an error's text.
    pub fn names() -> String {
        TABLE.map(|(_, name, _)| name).join(", ")
    }
}
