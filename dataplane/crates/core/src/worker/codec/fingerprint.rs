//! What tells a message from others: a hash of its fields but for the caller's id, which each sending may draw anew.

use xxhash_rust::xxh3::Xxh3;

use super::protobuf::{Field, Reader};
use crate::error::Error;

/// Hash a message. `id` is the way to the field that is left out, field by field.
pub fn fingerprint(message: &[u8], id: &[u32], seed: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    if add(message, id, &mut hasher).is_err() {
        // No message of protobuf: all of it tells it from others.
        hasher.update(message);
    }
    hasher.digest()
}

fn add(message: &[u8], id: &[u32], hasher: &mut Xxh3) -> Result<(), Error> {
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if let ([first, rest @ ..], Field::Bytes(inner)) = (id, field)
            && *first == number
        {
            // Nothing of it counts where it holds nothing but the id.
            if !rest.is_empty() {
                add(inner, rest, hasher)?;
            }
            continue;
        }
        // A field of the inner message is not the outer one's of that number.
        let place = number | (id.len() as u32) << 29;
        hasher.update(&place.to_le_bytes());
        match field {
            Field::Varint(value) => hasher.update(&value.to_le_bytes()),
            Field::Fixed64(bytes) => hasher.update(&bytes),
            Field::Fixed32(bytes) => hasher.update(&bytes),
            Field::Bytes(bytes) => {
                hasher.update(&bytes.len().to_le_bytes());
                hasher.update(bytes);
            }
        }
    }
    Ok(())
}
