//! Parts of a literal field (RFC 7541 section 6.2), as they lie in a block.

use std::sync::Arc;

use super::{Malformed, huffman, integer};
use crate::headers::Token;

/// A string as the block has it.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) is_huffman: bool,
}

/// A name as the block has it.
pub(super) enum NameIn<'a> {
    Known(Token),
    Table(Arc<[u8]>),
    Text(Text<'a>),
}

// === impl Text ===

impl<'a> Text<'a> {
    /// Read a string (RFC 7541 section 5.2); `block` moves behind it.
    #[inline]
    pub(super) fn read(block: &mut &'a [u8]) -> Result<Self, Malformed> {
        let is_huffman = block.first().is_some_and(|&first| first >= 0x80);
        let length = integer::read(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
        *block = rest;
        Ok(Self { bytes, is_huffman })
    }

    /// The bytes that it means.
    pub(super) fn length(self) -> Result<usize, Malformed> {
        match self.is_huffman {
            true => huffman::decoded_length(self.bytes),
            false => Ok(self.bytes.len()),
        }
    }

    pub(super) fn check(self) -> Result<(), Malformed> {
        self.length().map(|_| ())
    }
}

// === impl NameIn ===

impl NameIn<'_> {
    /// The token and the bytes of the name.
    #[inline]
    pub(super) fn resolve<'b>(
        &'b self,
        scratch: &'b mut Vec<u8>,
    ) -> Result<(Option<Token>, &'b [u8]), Malformed> {
        let name = match self {
            Self::Known(token) => return Ok((Some(*token), token.name().as_bytes())),
            Self::Table(name) => return Ok((None, name)),
            Self::Text(text) if !text.is_huffman => text.bytes,
            Self::Text(text) => {
                scratch.clear();
                huffman::decode(text.bytes, scratch)?;
                &scratch[..]
            }
        };
        Ok((Token::find(name), name))
    }
}
