//! Another version in a message: each field that asks for a label is replaced by one that asks for a version, or, where
//! the message asks for none, one is put in front.
//!
//! Works on the chunks of a request that are held while its route is looked for. What is not changed stays where it
//! is in memory: only the changed bytes, and chunks that are small anyway, are copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::bad;
use super::plan::{Plan, Role, VersionField};
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames, PREFIX};
use crate::grpc::wire::{FieldId, Scanner, Sink, Span, Value};

/// A piece below this size is copied to its neighbours: a DATA frame of its own costs more.
const COPY_BELOW: usize = 1024;
/// As large as an HTTP/2 frame usually may be.
const MOST_COPIED: usize = 16 * 1024;

const VARINT: u64 = 0;
const LENGTH: u64 = 2;

/// Let the held beginning of a request ask for `version` wherever its first message asks for a version or label by
/// text. Every such field must be held, and the messages that they are in, whole.
///
/// Return by how many bytes the request has grown, negative when it shrank.
///
/// # Errors
/// `bad_route_key` when the message is compressed, or has no field that could say this version.
pub fn replace_version(
    plan: &'static Plan,
    version: &str,
    chunks: &mut VecDeque<Bytes>,
) -> Result<isize, Error> {
    let field = version_field(plan, version)?;
    let (edits, length) = find(plan, field, chunks)?;
    edit(chunks, edits, length)
}

/// Let the held beginning of a request ask for `version`, a version or a label, where its first message does not; its
/// prefix must be held. The message may still ask for the same.
///
/// Return by how many bytes the request has grown.
///
/// # Errors
/// `bad_route_key` when the message is compressed, or can ask for several versions.
pub fn insert_version(
    plan: &'static Plan,
    version: &str,
    chunks: &mut VecDeque<Bytes>,
) -> Result<isize, Error> {
    if plan.is_repeated() {
        return Err(bad("each part of this message has a version of its own"));
    }
    let number: Option<i64> = version.parse().ok();
    let is_number = number.is_some_and(|number| number.to_string() == version);
    let mut new = match plan.label_field {
        Some(label) if !is_number => field(label, version.as_bytes()),
        _ => version_field(plan, version)?,
    };
    // Where a message of its own holds the version, it appears twice then: readers take the two together.
    for number in plan.holder.iter().rev() {
        new = field(*number, &new);
    }
    let mut frames = Frames::new(usize::MAX);
    for chunk in &*chunks {
        if let Some(Event::Start { compressed, length }) = frames.next(&mut &chunk[..])? {
            check_plain(compressed)?;
            let insertion = Edit {
                start: PREFIX as u64,
                end: PREFIX as u64,
                new,
            };
            return edit(chunks, vec![insertion], length);
        }
    }
    // The caller holds it.
    Err(internal(
        "a version is to be put into a message that has not begun",
    ))
}

/// Make the edits, and the one of the length in front of the message.
fn edit(chunks: &mut VecDeque<Bytes>, mut edits: Vec<Edit>, length: usize) -> Result<isize, Error> {
    let grown = edits.iter().map(Edit::growth).sum();
    if grown != 0 {
        let length = length
            .checked_add_signed(grown)
            .and_then(|length| u32::try_from(length).ok())
            .ok_or_else(|| bad("the message is too long to be changed"))?;
        edits.push(Edit {
            start: 1,
            end: PREFIX as u64,
            new: length.to_be_bytes().to_vec(),
        });
    }
    edits.sort_unstable_by_key(|edit| edit.start);
    if !edits.is_empty() {
        *chunks = apply(std::mem::take(chunks), &edits);
    }
    Ok(grown)
}

fn check_plain(compressed: bool) -> Result<(), Error> {
    if compressed {
        return Err(bad("a compressed message is not changed"));
    }
    Ok(())
}

fn internal(message: &'static str) -> Error {
    Error::new(ErrorKind::Internal, message)
}

/// Bytes of the request to replace, as offsets from its first byte.
struct Edit {
    start: u64,
    end: u64,
    new: Vec<u8>,
}

impl Edit {
    fn growth(&self) -> isize {
        self.new.len() as isize - (self.end - self.start) as isize
    }
}

/// Finds the fields to replace, and the lengths that change with them.
struct Finder {
    plan: &'static Plan,
    field: Vec<u8>,
    edits: Vec<Edit>,
    /// The messages that the scanner is in, and by how much each grows.
    open: Vec<(Span, isize)>,
}

// === impl Finder ===

impl Finder {
    fn replace(&mut self, start: u64, end: u64, new: Vec<u8>) {
        let edit = Edit { start, end, new };
        let growth = edit.growth();
        self.edits.push(edit);
        self.grow(growth);
    }

    /// The innermost of the open messages gets longer.
    fn grow(&mut self, growth: isize) {
        if let Some((_, grown)) = self.open.last_mut() {
            *grown += growth;
        }
    }
}

impl Sink for Finder {
    type Error = Error;

    fn enter(&mut self, _: FieldId, span: Span) -> Result<(), Error> {
        self.open.push((span, 0));
        Ok(())
    }

    fn exit(&mut self, _: FieldId) -> Result<(), Error> {
        let Some((span, grown)) = self.open.pop() else {
            return Ok(());
        };
        self.grow(grown);
        if grown != 0 {
            let length = (span.end - span.value).saturating_add_signed(grown as i64);
            self.replace(span.head, span.value, varint(length));
        }
        Ok(())
    }

    fn value(&mut self, field: FieldId, _: Value<'_>, span: Span) -> Result<(), Error> {
        if matches!(self.plan.role(field), Role::Version | Role::Label) {
            self.replace(span.tag, span.end, self.field.clone());
        }
        Ok(())
    }
}

/// The edits of the request's first message, and the length of the message before them.
fn find(
    plan: &'static Plan,
    field: Vec<u8>,
    chunks: &VecDeque<Bytes>,
) -> Result<(Vec<Edit>, usize), Error> {
    let mut finder = Finder {
        plan,
        field,
        edits: Vec::new(),
        open: Vec::new(),
    };
    let mut scanner = Scanner::default();
    let mut frames = Frames::new(usize::MAX);
    let mut message_length = 0;
    'message: for chunk in chunks {
        let mut rest = &chunk[..];
        while let Some(event) = frames.next(&mut rest)? {
            match event {
                Event::Start { compressed, length } => {
                    check_plain(compressed)?;
                    message_length = length;
                }
                Event::Data(data) => scanner.feed(&plan.shape, data, &mut finder)?,
                Event::End => break 'message,
            }
        }
    }
    if finder.open.iter().any(|(_, grown)| *grown != 0) {
        // The caller holds these messages whole.
        return Err(internal("a label was routed before its message had come"));
    }
    let behind_prefix = |mut edit: Edit| {
        edit.start += PREFIX as u64;
        edit.end += PREFIX as u64;
        edit
    };
    let edits = finder.edits.into_iter().map(behind_prefix).collect();
    Ok((edits, message_length))
}

/// The field that asks for a version, tag and length included.
fn version_field(plan: &Plan, version: &str) -> Result<Vec<u8>, Error> {
    let (number, value) = match plan.version_field {
        Some(VersionField::Text(number)) => (number, version.as_bytes().to_vec()),
        Some(VersionField::Number(number)) => {
            let id: i64 = version.parse().map_err(|_| {
                bad(format!(
                    "version {version} is no int64, which this message needs"
                ))
            })?;
            // Int64Value has its value in field 1; the wire holds the two's complement.
            (
                number,
                [varint(1 << 3 | VARINT), varint(id as u64)].concat(),
            )
        }
        None => return Err(bad("this message has no field for a version")),
    };
    Ok(field(number, &value))
}

/// A field with a length.
fn field(number: u32, value: &[u8]) -> Vec<u8> {
    let tag = varint(u64::from(number) << 3 | LENGTH);
    [&tag, &varint(value.len() as u64), value].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The chunks with the edits, which must be in order and not overlap.
fn apply(chunks: VecDeque<Bytes>, edits: &[Edit]) -> VecDeque<Bytes> {
    let mut out = Pieces::default();
    let mut edits = edits.iter().peekable();
    // Where the chunk's rest begins in the request.
    let mut offset = 0;
    for mut chunk in chunks {
        while let Some(edit) = edits.peek() {
            let end = offset + chunk.len() as u64;
            if edit.start >= end {
                break;
            }
            if edit.start > offset {
                out.push(chunk.split_to((edit.start - offset) as usize));
                offset = edit.start;
            }
            let replaced = (edit.end.min(end) - offset) as usize;
            chunk = chunk.slice(replaced..);
            offset += replaced as u64;
            if offset < edit.end {
                break;
            }
            out.push(Bytes::copy_from_slice(&edit.new));
            edits.next();
        }
        offset += chunk.len() as u64;
        out.push(chunk);
    }
    // What is inserted behind everything that has come.
    for edit in edits {
        out.push(Bytes::copy_from_slice(&edit.new));
    }
    out.finish()
}

/// Chunks under way, the small ones joined.
#[derive(Default)]
struct Pieces {
    done: VecDeque<Bytes>,
    small: BytesMut,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if piece.len() >= COPY_BELOW || self.small.len() + piece.len() > MOST_COPIED {
            self.flush();
        }
        if piece.len() >= COPY_BELOW {
            self.done.push_back(piece);
        } else {
            self.small.extend_from_slice(&piece);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.done.push_back(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> VecDeque<Bytes> {
        self.flush();
        self.done
    }
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
