//! Elements of tensors between JSON and the raw form of the Open Inference Protocol: row-major, little-endian, BYTES as a
//! 4-byte length and the data of each element.

use half::{bf16, f16};

use super::json::{Kind, Reader, bad};
use crate::error::{Error, ErrorKind};

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

/// Elements that were read.
#[derive(Debug, Default)]
pub struct Elements {
    pub raw: Vec<u8>,
    pub count: usize,
    /// Lengths of the arrays around them, outermost first.
    pub shape: Vec<usize>,
}

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

    /// The names that there are, for an error's text.
    pub fn names() -> String {
        TABLE.map(|(_, name, _)| name).join(", ")
    }
}

// === impl Elements ===

impl Elements {
    /// Read a value: an element, or arrays of arrays of them, each as long as its neighbours.
    pub fn read(reader: &mut Reader<'_>, datatype: Datatype) -> Result<Self, Error> {
        let mut elements = Self::default();
        let mut levels = Vec::new();
        let mut leaf = None;
        elements.nested(reader, datatype, 0, &mut levels, &mut leaf)?;
        elements.shape = levels.into_iter().map(Option::unwrap_or_default).collect();
        Ok(elements)
    }

    /// `levels` has the length of the arrays of each level, once one has been read; `leaf` the level of the elements.
    fn nested(
        &mut self,
        reader: &mut Reader<'_>,
        datatype: Datatype,
        level: usize,
        levels: &mut Vec<Option<usize>>,
        leaf: &mut Option<usize>,
    ) -> Result<(), Error> {
        if reader.kind()? != Kind::Array {
            if *leaf.get_or_insert(level) != level || levels.len() > level {
                return Err(reader.error("an array, as its neighbours are"));
            }
            self.count += 1;
            return self.element(reader, datatype);
        }
        if leaf.is_some_and(|leaf| leaf <= level) {
            return Err(reader.error("an element, as its neighbours are"));
        }
        if levels.len() == level {
            levels.push(None);
        }
        let mut length = 0;
        reader.array(|reader| {
            length += 1;
            self.nested(reader, datatype, level + 1, levels, leaf)
        })?;
        match levels[level].replace(length) {
            Some(other) if other != length => Err(reader.error(&format!(
                "arrays of one length: here ends one of {length} behind one of {other}"
            ))),
            _ => Ok(()),
        }
    }

    fn element(&mut self, reader: &mut Reader<'_>, datatype: Datatype) -> Result<(), Error> {
        macro_rules! number {
            ($type:ty) => {{
                let text = reader.number()?;
                let value: $type = text.parse().map_err(|_| unfit(text, datatype))?;
                self.raw.extend_from_slice(&value.to_le_bytes());
            }};
        }
        match datatype {
            Datatype::Bool if reader.kind()? == Kind::Bool => {
                self.raw.push(u8::from(reader.bool()?));
            }
            Datatype::Bool => match reader.number()? {
                "0" => self.raw.push(0),
                "1" => self.raw.push(1),
                text => return Err(unfit(text, datatype)),
            },
            Datatype::Uint8 => number!(u8),
            Datatype::Uint16 => number!(u16),
            Datatype::Uint32 => number!(u32),
            Datatype::Uint64 => number!(u64),
            Datatype::Int8 => number!(i8),
            Datatype::Int16 => number!(i16),
            Datatype::Int32 => number!(i32),
            Datatype::Int64 => number!(i64),
            Datatype::Fp16 => {
                let (text, value) = float::<f64>(reader, datatype)?;
                let half = f16::from_f64(value);
                finite(text, half.is_finite(), datatype)?;
                self.raw.extend_from_slice(&half.to_le_bytes());
            }
            Datatype::Bf16 => {
                let (text, value) = float::<f64>(reader, datatype)?;
                let half = bf16::from_f64(value);
                finite(text, half.is_finite(), datatype)?;
                self.raw.extend_from_slice(&half.to_le_bytes());
            }
            Datatype::Fp32 => {
                let (text, value) = float::<f32>(reader, datatype)?;
                finite(text, value.is_finite(), datatype)?;
                self.raw.extend_from_slice(&value.to_le_bytes());
            }
            Datatype::Fp64 => {
                let (text, value) = float::<f64>(reader, datatype)?;
                finite(text, value.is_finite(), datatype)?;
                self.raw.extend_from_slice(&value.to_le_bytes());
            }
            Datatype::Bytes => {
                let text = reader.string()?;
                let length = u32::try_from(text.len()).map_err(|_| unfit("a string", datatype))?;
                self.raw.extend_from_slice(&length.to_le_bytes());
                self.raw.extend_from_slice(text.as_bytes());
            }
        }
        Ok(())
    }
}

fn float<'a, T: std::str::FromStr>(
    reader: &mut Reader<'a>,
    datatype: Datatype,
) -> Result<(&'a str, T), Error> {
    let text = reader.number()?;
    let value = text.parse().map_err(|_| unfit(text, datatype))?;
    Ok((text, value))
}

/// An infinity must have been sent as one.
fn finite(text: &str, is_finite: bool, datatype: Datatype) -> Result<(), Error> {
    if is_finite || !text.ends_with(|last: char| last.is_ascii_digit()) {
        Ok(())
    } else {
        Err(unfit(text, datatype))
    }
}

fn unfit(text: &str, datatype: Datatype) -> Error {
    let text: String = text.chars().take(40).collect();
    bad(format!("{text} is no {}", datatype.name()))
}

/// Write raw elements as values with commas between them; `null` for numbers that JSON has no digits for, as MLServer does.
///
/// # Errors
/// The bytes are not whole elements, or a string is not UTF-8.
pub fn write(out: &mut Vec<u8>, datatype: Datatype, raw: &[u8]) -> Result<(), Error> {
    macro_rules! each {
        ($type:ty, $write:expr) => {{
            const SIZE: usize = size_of::<$type>();
            let (elements, rest) = raw.as_chunks::<SIZE>();
            if !rest.is_empty() {
                return Err(broken(datatype, raw.len()));
            }
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                $write(out, <$type>::from_le_bytes(*element));
            }
        }};
    }
    fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
    match datatype {
        Datatype::Bool => each!(u8, |out: &mut Vec<u8>, value| {
            let word: &[u8] = if value == 0 { b"false" } else { b"true" };
            out.extend_from_slice(word);
        }),
        Datatype::Uint8 => each!(u8, integer),
        Datatype::Uint16 => each!(u16, integer),
        Datatype::Uint32 => each!(u32, integer),
        Datatype::Uint64 => each!(u64, integer),
        Datatype::Int8 => each!(i8, integer),
        Datatype::Int16 => each!(i16, integer),
        Datatype::Int32 => each!(i32, integer),
        Datatype::Int64 => each!(i64, integer),
        Datatype::Fp16 => each!(f16, |out: &mut Vec<u8>, value: f16| single(
            out,
            value.into()
        )),
        Datatype::Bf16 => each!(bf16, |out: &mut Vec<u8>, value: bf16| single(
            out,
            value.into()
        )),
        Datatype::Fp32 => each!(f32, single),
        Datatype::Fp64 => each!(f64, double),
        Datatype::Bytes => strings(out, raw)?,
    }
    Ok(())
}

/// The fewest digits that make the same number again.
fn single(out: &mut Vec<u8>, value: f32) {
    match value.is_finite() {
        true => out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes()),
        false => out.extend_from_slice(b"null"),
    }
}

fn double(out: &mut Vec<u8>, value: f64) {
    match value.is_finite() {
        true => out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes()),
        false => out.extend_from_slice(b"null"),
    }
}

fn strings(out: &mut Vec<u8>, mut raw: &[u8]) -> Result<(), Error> {
    let whole = raw.len();
    let mut is_first = true;
    while !raw.is_empty() {
        let cut = || broken(Datatype::Bytes, whole);
        let (length, rest) = raw.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (element, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        raw = rest;
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        let text = std::str::from_utf8(element).map_err(|_| {
            let text = "the answer has BYTES that are not UTF-8, which JSON cannot say: ask for the output with the \
                        parameter binary_data";
            Error::new(ErrorKind::BadRequest, text)
        })?;
        string(out, text);
    }
    Ok(())
}

/// Write a string with its quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (place, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..place]);
        plain = place + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn broken(datatype: Datatype, length: usize) -> Error {
    let text = format!(
        "the answer has {length} bytes of {}, which are not whole elements",
        datatype.name()
    );
    Error::new(ErrorKind::BadUpstreamResponse, text)
}
