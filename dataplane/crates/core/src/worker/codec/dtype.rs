//! Element types: TensorFlow's numbers and OIP's names on the wire, sizes, numpy names.

/// An element type that can be decoded and encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    Float,
    Double,
    Int32,
    Uint8,
    Int16,
    Int8,
    String,
    Complex64,
    Int64,
    Bool,
    BFloat16,
    Uint16,
    Complex128,
    Half,
    Uint32,
    Uint64,
}

type Row = (DType, u64, &'static str, usize, &'static str);

/// (type, number of `tensorflow.DataType`, numpy name, bytes of an element, OIP's name or none)
const TABLE: &[Row] = &[
    (DType::Float, 1, "float32", 4, "FP32"),
    (DType::Double, 2, "float64", 8, "FP64"),
    (DType::Int32, 3, "int32", 4, "INT32"),
    (DType::Uint8, 4, "uint8", 1, "UINT8"),
    (DType::Int16, 5, "int16", 2, "INT16"),
    (DType::Int8, 6, "int8", 1, "INT8"),
    (DType::String, 7, "object", 0, "BYTES"),
    (DType::Complex64, 8, "complex64", 8, ""),
    (DType::Int64, 9, "int64", 8, "INT64"),
    (DType::Bool, 10, "bool", 1, "BOOL"),
    (DType::BFloat16, 14, "bfloat16", 2, "BF16"),
    (DType::Uint16, 17, "uint16", 2, "UINT16"),
    (DType::Complex128, 18, "complex128", 16, ""),
    (DType::Half, 19, "float16", 2, "FP16"),
    (DType::Uint32, 22, "uint32", 4, "UINT32"),
    (DType::Uint64, 23, "uint64", 8, "UINT64"),
];

/// Where `TensorProto` keeps values of a type, and how they are encoded there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Varints cut to the element's size.
    Varint(u32),
    /// Varints of which any but 0 is true.
    Bool(u32),
    /// 4-byte floats, as many as an element has.
    Fixed32(u32),
    /// 8-byte floats, as many as an element has.
    Fixed64(u32),
    Strings(u32),
}

impl DType {
    /// Every type; tests run over it.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        // the enum's order is the table's; a test says so
        &TABLE[self as usize]
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// The type of a numpy dtype's name; `None` for what TensorProto cannot carry.
    pub fn from_numpy_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    pub(super) fn number(self) -> u64 {
        self.row().1
    }

    /// The name of numpy's dtype. numpy has no bfloat16: decoding widens it to [`DType::Float`].
    pub fn numpy_name(self) -> &'static str {
        self.row().2
    }

    /// The type of one of OIP's datatypes, such as `FP32`.
    pub(super) fn from_oip_name(name: &str) -> Option<Self> {
        Self::all().find(|dtype| dtype.oip_name() == Some(name))
    }

    /// OIP's name of the type; `None` for complex numbers, which OIP does not have.
    pub fn oip_name(self) -> Option<&'static str> {
        Some(self.row().4).filter(|name| !name.is_empty())
    }

    /// Bytes of one element; 0 for strings.
    pub fn size(self) -> usize {
        self.row().3
    }

    pub(super) fn typed(self) -> Typed {
        match self {
            Self::Float => Typed::Fixed32(5),
            Self::Double => Typed::Fixed64(6),
            Self::Int32 | Self::Uint8 | Self::Int16 | Self::Int8 | Self::Uint16 => Typed::Varint(7),
            Self::String => Typed::Strings(8),
            Self::Complex64 => Typed::Fixed32(9),
            Self::Int64 => Typed::Varint(10),
            Self::Bool => Typed::Bool(11),
            Self::Complex128 => Typed::Fixed64(12),
            Self::Half | Self::BFloat16 => Typed::Varint(13),
            Self::Uint32 => Typed::Varint(16),
            Self::Uint64 => Typed::Varint(17),
        }
    }

    /// Whether TensorFlow's make_tensor_proto puts values of this type into tensor_content when there are
    /// at least two of them.
    pub(super) fn has_content(self) -> bool {
        !matches!(
            self,
            Self::String | Self::Complex64 | Self::Complex128 | Self::Uint16 | Self::Bool
        )
    }

    /// Whether a varint of this type is sign-extended to 64 bits.
    pub(super) fn is_signed(self) -> bool {
        matches!(self, Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_finds_its_own_row() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(DType::from_number(row.1), Some(row.0));
            assert_eq!(DType::from_numpy_name(row.0.numpy_name()), Some(row.0));
            let oip = row.0.oip_name().map(DType::from_oip_name);
            assert!(oip.is_none_or(|dtype| dtype == Some(row.0)));
        }
    }
}
