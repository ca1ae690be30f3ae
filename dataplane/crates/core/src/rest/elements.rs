//! Elements of tensors between JSON and the raw form of the Open Inference Protocol: row-major, little-endian, BYTES as a
//! 4-byte length and the data of each element.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
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

/// Arrays within each other that are written: as deep as those that are read.
const MAX_RANK: usize = 64;
/// Arrays without an element in them: a shape may name any number of them at no cost.
const MAX_EMPTY: usize = 1 << 16;

/// Elements that were read, of one tensor.
#[derive(Debug, Default)]
pub struct Elements {
    pub raw: Vec<u8>,
    pub count: usize,
    /// Length of the arrays of each level, outermost first, once one has been read.
    lengths: Vec<Option<usize>>,
    /// Level of the elements.
    leaf: Option<usize>,
}

/// A tensor with its name.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    pub raw: Bytes,
}

/// Check that the nested arrays of a shape are not far more, or far deeper, than its elements.
///
/// # Errors
/// `bad_request`.
pub fn check_nesting(shape: &[usize]) -> Result<(), Error> {
    let rank = shape.len();
    if rank > MAX_RANK {
        return Err(bad(format!(
            "a tensor of {rank} dimensions is no nested arrays, limit {MAX_RANK}: use a form with a flat list, or binary \
             data"
        )));
    }
    let Some(end) = shape.iter().position(|length| *length == 0) else {
        return Ok(());
    };
    let arrays = shape[..end]
        .iter()
        .try_fold(1usize, |count, length| count.checked_mul(*length));
    match arrays.filter(|arrays| *arrays <= MAX_EMPTY) {
        Some(_) => Ok(()),
        None => Err(bad(format!(
            "shape {shape:?} has no element and more than {MAX_EMPTY} empty arrays: send fewer"
        ))),
    }
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

    /// Every type.
    pub fn all() -> [Self; TABLE.len()] {
        TABLE.map(|(datatype, _, _)| datatype)
    }

    /// The names that there are, for an error's text.
    pub fn names() -> String {
        TABLE.map(|(_, name, _)| name).join(", ")
    }
}

// === impl Elements ===

impl Elements {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length =
            u32::try_from(bytes.len()).map_err(|_| unfit("what is so long", Datatype::Bytes))?;
        self.raw.extend_from_slice(&length.to_le_bytes());
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    /// Read a value: an element, or arrays of arrays of them, each as long as its neighbours.
    pub fn read(reader: &mut Reader<'_>, datatype: Datatype) -> Result<Self, Error> {
        let mut elements = Self::default();
        elements.add(reader, datatype, 0)?;
        Ok(elements)
    }

    /// Read one more value, which lies within so many arrays.
    pub fn add(
        &mut self,
        reader: &mut Reader<'_>,
        datatype: Datatype,
        level: usize,
    ) -> Result<(), Error> {
        if reader.kind()? != Kind::Array {
            if *self.leaf.get_or_insert(level) != level || self.lengths.len() > level {
                return Err(reader.error("an array, as its neighbours are"));
            }
            self.count += 1;
            return self.element(reader, datatype);
        }
        if self.leaf.is_some_and(|leaf| leaf <= level) {
            return Err(reader.error("an element, as its neighbours are"));
        }
        if self.lengths.len() <= level {
            self.lengths.resize(level + 1, None);
        }
        let mut length = 0;
        reader.array(|reader| {
            length += 1;
            self.add(reader, datatype, level + 1)
        })?;
        match self.lengths[level].replace(length) {
            Some(other) if other != length => Err(reader.error(&format!(
                "arrays of one length: here ends one of {length} behind one of {other}"
            ))),
            _ => Ok(()),
        }
    }

    /// Lengths of the arrays around the elements, outermost first.
    pub fn shape(&self) -> impl Iterator<Item = usize> {
        self.lengths.iter().map(|length| length.unwrap_or_default())
    }

    /// Say how many values were added within one array.
    pub fn close(&mut self, length: usize) {
        match self.lengths.first_mut() {
            Some(first) => *first = Some(length),
            None => self.lengths.push(Some(length)),
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
            Datatype::Bytes if reader.kind()? == Kind::Object => {
                let bytes = base64(reader)?;
                self.bytes(&bytes)?;
            }
            Datatype::Bytes => {
                let text = reader.string()?;
                self.bytes(text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// `{"b64": "..."}`, bytes as TF Serving writes them.
fn base64(reader: &mut Reader<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = None;
    reader.object(|reader, key| {
        if key != "b64" {
            return Err(reader.error("{\"b64\": ...} alone, for bytes"));
        }
        let text = reader.string()?;
        let decoded = BASE64.decode(text.as_bytes());
        bytes = Some(decoded.map_err(|error| bad(format!("not base64: {error}")))?);
        Ok(())
    })?;
    bytes.ok_or_else(|| reader.error("{\"b64\": ...}, for bytes"))
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

/// Writes elements one after the other.
pub struct Writer<'a> {
    datatype: Datatype,
    raw: &'a [u8],
    whole: usize,
    not_finite: NotFinite,
    strings: Strings,
}

/// What is written for numbers that JSON has no digits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFinite {
    /// As MLServer does.
    Null,
    /// `NaN`, `Infinity`, as TF Serving does, and Python reads.
    Words,
    /// `"NaN"`, `"Infinity"`, as protobuf does.
    Quoted,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    Text,
    /// `{"b64": "..."}`
    Base64,
}

// === impl Tensor ===

impl Tensor {
    /// A tensor of BYTES with an element for each of these.
    ///
    /// # Errors
    /// `bad_request`: one is too long.
    pub fn of_bytes(name: &str, each: &[impl AsRef<[u8]>]) -> Result<Self, Error> {
        let mut elements = Elements::default();
        for bytes in each {
            elements.bytes(bytes.as_ref())?;
        }
        Ok(Self {
            name: name.to_owned(),
            datatype: Datatype::Bytes,
            shape: vec![each.len()],
            raw: elements.raw.into(),
        })
    }

    /// The elements of BYTES, in their order.
    ///
    /// # Errors
    /// `bad_upstream_response`: they are not whole.
    pub fn bytes(&self) -> Result<Vec<Bytes>, Error> {
        let broken = || broken(self.datatype, self.raw.len());
        let mut found = Vec::new();
        let mut rest = self.raw.clone();
        while !rest.is_empty() {
            let length = rest.first_chunk().ok_or_else(broken)?;
            let length = u32::from_le_bytes(*length) as usize;
            if rest.len() - 4 < length {
                return Err(broken());
            }
            found.push(rest.slice(4..4 + length));
            rest = rest.slice(4 + length..);
        }
        Ok(found)
    }
}

// === impl Writer ===

impl<'a> Writer<'a> {
    pub fn new(datatype: Datatype, raw: &'a [u8], not_finite: NotFinite, strings: Strings) -> Self {
        Self {
            datatype,
            raw,
            whole: raw.len(),
            not_finite,
            strings,
        }
    }

    /// Write all that is left, with commas between.
    ///
    /// # Errors
    /// The bytes are not whole elements, or a string is not UTF-8.
    pub fn rest(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        while !self.raw.is_empty() {
            self.next(out)?;
            if !self.raw.is_empty() {
                out.push(b',');
            }
        }
        Ok(())
    }

    /// Write as many elements as a shape has, as arrays of arrays.
    ///
    /// # Errors
    /// As [`rest`](Self::rest) and [`check_nesting`].
    pub fn nested(&mut self, out: &mut Vec<u8>, shape: &[usize]) -> Result<(), Error> {
        check_nesting(shape)?;
        self.arrays(out, shape)
    }

    fn arrays(&mut self, out: &mut Vec<u8>, shape: &[usize]) -> Result<(), Error> {
        let [length, inner @ ..] = shape else {
            return self.next(out);
        };
        out.push(b'[');
        for index in 0..*length {
            if index > 0 {
                out.push(b',');
            }
            self.arrays(out, inner)?;
        }
        out.push(b']');
        Ok(())
    }

    /// Write the next element.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        macro_rules! integer {
            ($type:ty) => {{
                let value = <$type>::from_le_bytes(self.take()?);
                out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }};
        }
        match self.datatype {
            Datatype::Bool => {
                let [value] = self.take()?;
                let word: &[u8] = if value == 0 { b"false" } else { b"true" };
                out.extend_from_slice(word);
            }
            Datatype::Uint8 => integer!(u8),
            Datatype::Uint16 => integer!(u16),
            Datatype::Uint32 => integer!(u32),
            Datatype::Uint64 => integer!(u64),
            Datatype::Int8 => integer!(i8),
            Datatype::Int16 => integer!(i16),
            Datatype::Int32 => integer!(i32),
            Datatype::Int64 => integer!(i64),
            Datatype::Fp16 => self.float(out, f16::from_le_bytes(self.peek()?).to_f32())?,
            Datatype::Bf16 => self.float(out, bf16::from_le_bytes(self.peek()?).to_f32())?,
            Datatype::Fp32 => self.float(out, f32::from_le_bytes(self.peek()?))?,
            Datatype::Fp64 => self.float(out, f64::from_le_bytes(self.peek()?))?,
            Datatype::Bytes => self.string(out)?,
        }
        Ok(())
    }

    /// Write the number that comes next: the fewest digits that make it again.
    fn float<F: zmij::Float + Into<f64>>(
        &mut self,
        out: &mut Vec<u8>,
        value: F,
    ) -> Result<(), Error> {
        let wide: f64 = value.into();
        let word = match self.not_finite {
            _ if wide.is_finite() => {
                out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
                ""
            }
            NotFinite::Null => "null",
            NotFinite::Words | NotFinite::Quoted if wide.is_nan() => "NaN",
            NotFinite::Words | NotFinite::Quoted if wide > 0.0 => "Infinity",
            NotFinite::Words | NotFinite::Quoted => "-Infinity",
        };
        match self.not_finite {
            NotFinite::Quoted if !word.is_empty() => string(out, word),
            _ => out.extend_from_slice(word.as_bytes()),
        }
        self.raw = &self.raw[self.datatype.size()..];
        Ok(())
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let split = self.raw.split_at_checked(length);
        let (element, rest) = split.ok_or_else(|| broken(self.datatype, self.whole))?;
        self.raw = rest;
        if self.strings == Strings::Base64 {
            out.extend_from_slice(b"{\"b64\":\"");
            out.extend_from_slice(BASE64.encode(element).as_bytes());
            out.extend_from_slice(b"\"}");
            return Ok(());
        }
        let text = std::str::from_utf8(element).map_err(|_| {
            let text = "the answer has bytes that are not UTF-8, which JSON cannot say: ask for the output as \
                        binary_data, or give it a name that ends in _bytes";
            Error::new(ErrorKind::BadRequest, text)
        })?;
        string(out, text);
        Ok(())
    }

    fn peek<const N: usize>(&self) -> Result<[u8; N], Error> {
        let first = self.raw.first_chunk();
        first
            .copied()
            .ok_or_else(|| broken(self.datatype, self.whole))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let first = self.peek()?;
        self.raw = &self.raw[N..];
        Ok(first)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_nested_as_deep_and_as_often_as_their_elements_need() {
        let told = |shape: &[usize]| match check_nesting(shape) {
            Ok(()) => "fine".to_owned(),
            Err(error) => error.message.into_owned(),
        };
        for shape in [
            &[][..],
            &[0],
            &[2, 3],
            &[0, usize::MAX],
            &[MAX_EMPTY, 0],
            &[1; MAX_RANK],
        ] {
            assert_eq!(told(shape), "fine", "{shape:?}");
        }
        assert!(told(&[1; MAX_RANK + 1]).starts_with("a tensor of 65 dimensions"));
        for shape in [&[MAX_EMPTY + 1, 0][..], &[usize::MAX, 2, 0]] {
            assert!(told(shape).contains("more than 65536 empty arrays"));
        }
    }
}
