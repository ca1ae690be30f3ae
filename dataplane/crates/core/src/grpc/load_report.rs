//! What a server says of its load in a call's trailers: ORCA's `OrcaLoadReport`, in base64. Written by our model
//! servers, read from every endpoint. Neither way allocates, but for the header's own bytes.
//!
//! Source: gRPC's proposal A51; protos/xds/data/orca/v3/orca_load_report.proto.

use crate::headers::{Headers, Token};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{self, DecodeContext, WireType};

/// The trailer that carries a report.
pub const LOAD_REPORT: Token = Token::ENDPOINT_LOAD_METRICS_BIN;

/// Largest report that is read, bytes of base64: one has a few dozen, and metadata are not for more.
const MOST: usize = 4096;

/// gRPC's servers send `-bin` metadata without padding, and must take both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Field numbers of `OrcaLoadReport`.
mod field {
    pub const CPU_UTILIZATION: u32 = 1;
    pub const RPS: u32 = 3;
    pub const REQUEST_COST: u32 = 4;
    pub const RPS_FRACTIONAL: u32 = 6;
    pub const EPS: u32 = 7;
    pub const NAMED_METRICS: u32 = 8;
    pub const APPLICATION_UTILIZATION: u32 = 9;
}

const QUEUE: &str = "queue";
const QUEUE_MS: &str = "queue_ms";
const COMPUTE_MS: &str = "compute_ms";
const PREPROCESS_MS: &str = "preprocess_ms";
const MODEL_MS: &str = "model_ms";
const POSTPROCESS_MS: &str = "postprocess_ms";

/// What of a report is written and read here. Every number is finite and at least 0; 0 where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Busy share of what there is to be busy, 0..=1, or more where a server counts what waits: the application's own
    /// figure where it gives one, else its CPU's.
    pub utilization: f64,
    /// Calls, and failed calls, a second.
    pub rps: f64,
    pub eps: f64,
    /// Calls that wait.
    pub queue: f64,
    /// How long this call waited, and was worked on, ms.
    pub queue_ms: f64,
    pub compute_ms: f64,
    /// How long it was in each stage of that; all 0 where the server does not know.
    pub preprocess_ms: f64,
    pub model_ms: f64,
    pub postprocess_ms: f64,
}

/// The trailer's bytes are no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

// === impl LoadReport ===

impl LoadReport {
    /// The report in an answer's trailers, if there is one.
    ///
    /// # Errors
    /// It is too large, no base64 or no message.
    pub fn find(trailers: &Headers) -> Result<Option<Self>, Unreadable> {
        let Some(value) = trailers.get(LOAD_REPORT) else {
            return Ok(None);
        };
        Self::decode(value).map(Some)
    }

    fn decode(text: &[u8]) -> Result<Self, Unreadable> {
        if text.len() > MOST {
            return Err(Unreadable);
        }
        let mut bytes = [0; MOST / 4 * 3];
        let length = BASE64
            .decode_slice(text, &mut bytes)
            .map_err(|_| Unreadable)?;
        let mut report = Self::default();
        report.read(&bytes[..length])?;
        Ok(report)
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Unreadable> {
        let (mut cpu, mut rps) = (0.0, 0.0);
        while let Some((number, value)) = next(&mut bytes)? {
            match (number, value) {
                (field::CPU_UTILIZATION, Value::Double(value)) => cpu = value,
                (field::APPLICATION_UTILIZATION, Value::Double(value)) => self.utilization = value,
                (field::RPS, Value::Varint(value)) => rps = value as f64,
                (field::RPS_FRACTIONAL, Value::Double(value)) => self.rps = value,
                (field::EPS, Value::Double(value)) => self.eps = value,
                (field::REQUEST_COST | field::NAMED_METRICS, Value::Bytes(entry)) => {
                    self.set(number, pair(entry)?);
                }
                _ => {}
            }
        }
        if self.utilization == 0.0 {
            self.utilization = cpu;
        }
        if self.rps == 0.0 {
            self.rps = rps;
        }
        Ok(())
    }

    fn set(&mut self, map: u32, (name, value): (&[u8], f64)) {
        for (wanted, known, place) in [
            (field::NAMED_METRICS, QUEUE, &mut self.queue),
            (field::REQUEST_COST, QUEUE_MS, &mut self.queue_ms),
            (field::REQUEST_COST, COMPUTE_MS, &mut self.compute_ms),
            (field::REQUEST_COST, PREPROCESS_MS, &mut self.preprocess_ms),
            (field::REQUEST_COST, MODEL_MS, &mut self.model_ms),
            (
                field::REQUEST_COST,
                POSTPROCESS_MS,
                &mut self.postprocess_ms,
            ),
        ] {
            if (map, name) == (wanted, known.as_bytes()) {
                *place = value;
            }
        }
    }

    /// The trailer's value, of visible ASCII. It never repeats: keep it out of the connection's compression table.
    pub fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(192);
        for (number, value) in [
            (field::APPLICATION_UTILIZATION, self.utilization),
            (field::RPS_FRACTIONAL, self.rps),
            (field::EPS, self.eps),
        ] {
            if value > 0.0 {
                encoding::double::encode(number, &value, &mut bytes);
            }
        }
        for (number, name, value) in [
            (field::NAMED_METRICS, QUEUE, self.queue),
            (field::REQUEST_COST, QUEUE_MS, self.queue_ms),
            (field::REQUEST_COST, COMPUTE_MS, self.compute_ms),
        ] {
            put_pair(number, name, value, &mut bytes);
        }
        for (name, value) in [
            (PREPROCESS_MS, self.preprocess_ms),
            (MODEL_MS, self.model_ms),
            (POSTPROCESS_MS, self.postprocess_ms),
        ] {
            if value > 0.0 {
                put_pair(field::REQUEST_COST, name, value, &mut bytes);
            }
        }
        BASE64.encode(&bytes)
    }
}

/// A field's value, as far as a report has such.
enum Value<'a> {
    Double(f64),
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Take the next field of a message; none at its end.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u32, Value<'a>)>, Unreadable> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (number, wire_type) = encoding::decode_key(bytes).map_err(|_| Unreadable)?;
    let value = match wire_type {
        WireType::SixtyFourBit => {
            let (value, rest) = bytes.split_first_chunk().ok_or(Unreadable)?;
            *bytes = rest;
            Value::Double(sane(f64::from_le_bytes(*value)))
        }
        WireType::Varint => Value::Varint(varint(bytes)?),
        WireType::LengthDelimited => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| Unreadable)?;
            let (value, rest) = bytes.split_at_checked(length).ok_or(Unreadable)?;
            *bytes = rest;
            Value::Bytes(value)
        }
        _ => {
            encoding::skip_field(wire_type, number, bytes, DecodeContext::default())
                .map_err(|_| Unreadable)?;
            Value::Other
        }
    };
    Ok(Some((number, value)))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Unreadable> {
    encoding::decode_varint(bytes).map_err(|_| Unreadable)
}

/// The key and value of a map's entry.
fn pair(mut entry: &[u8]) -> Result<(&[u8], f64), Unreadable> {
    let (mut key, mut number) = (&b""[..], 0.0);
    while let Some((field, value)) = next(&mut entry)? {
        match (field, value) {
            (1, Value::Bytes(name)) => key = name,
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    Ok((key, number))
}

fn put_pair(number: u32, name: &str, value: f64, bytes: &mut Vec<u8>) {
    // Two keys, a length and the name of less than 128 bytes, and eight bytes.
    let length = 2 + name.len() + 9;
    encoding::encode_key(number, WireType::LengthDelimited, bytes);
    encoding::encode_varint(length as u64, bytes);
    encoding::encode_key(1, WireType::LengthDelimited, bytes);
    encoding::encode_varint(name.len() as u64, bytes);
    bytes.extend_from_slice(name.as_bytes());
    encoding::double::encode(2, &value, bytes);
}

/// What is no number, or none that a load can be, is as good as nothing said.
fn sane(value: f64) -> f64 {
    if value.is_finite() && value > 0.0 {
        value
    } else {
        0.0
    }
}

#[cfg(test)]
#[path = "load_report_tests.rs"]
mod tests;
