//! Elements of a tensor written as JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use half::{bf16, f16};

use super::Datatype;
use super::tensor::{broken, check_nesting};
use crate::error::{Error, ErrorKind};

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
