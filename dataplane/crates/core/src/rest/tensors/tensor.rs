//! A tensor with its name, in the raw form of the Open Inference Protocol: row-major, little-endian, BYTES as a 4-byte length
//! and the data of each element.

use bytes::Bytes;

use super::Datatype;
use super::Elements;
use super::json::bad;
use crate::error::{Error, ErrorKind};

/// An input's or output's name and type.
pub type Named = (String, Datatype);

/// Arrays within each other that are written: as deep as those that are read.
const MAX_RANK: usize = 64;
/// Arrays without an element in them: a shape may name any number of them at no cost.
const MAX_EMPTY: usize = 1 << 16;

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

pub(super) fn broken(datatype: Datatype, length: usize) -> Error {
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
