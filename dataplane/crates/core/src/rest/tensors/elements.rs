//! Elements of a tensor read from JSON, in whatever arrays they lie.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use half::{bf16, f16};

use super::Datatype;
use crate::error::Error;
use crate::rest::tensors::json::{Kind, Reader, bad};

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

// === impl Elements ===

impl Elements {
    /// Add an element of BYTES.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
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
