//! Where decoded fields go: a list, as far as it may grow.

use super::literal::Text;
use super::{Malformed, huffman};
use crate::headers::{FIELD_OVERHEAD, Headers, Token};

/// Bytes of the longest content type that a list keeps which was cut before it.
const MOST_KIND: usize = 128;

/// The list that is filled, and whether it was cut. What a request is can be seen even then: clients send its content type
/// behind their users' fields.
pub(super) struct Sink<'a> {
    pub(super) list: &'a mut Headers,
    /// What still has room; nothing from the first field on that had none.
    pub(super) fields_left: usize,
    pub(super) bytes_left: usize,
    pub(super) is_cut: bool,
}

// === impl Sink ===

impl Sink<'_> {
    /// What is left for a value beside a name.
    #[inline]
    pub(super) fn room(&self, name_len: usize) -> Option<usize> {
        let room = self.bytes_left.checked_sub(name_len + FIELD_OVERHEAD);
        room.filter(|_| self.fields_left > 0)
    }

    #[cold]
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
        self.fields_left = 0;
    }

    /// Whether a field is what a list that was cut still takes, once.
    #[cold]
    fn is_kind(&self, token: Option<Token>, value_len: usize) -> bool {
        token == Some(Token::CONTENT_TYPE)
            && value_len <= MOST_KIND
            && !self.list.has(Token::CONTENT_TYPE)
    }

    /// Add a field where there is room for what it counts. `name` counts where there is no token.
    #[inline]
    pub(super) fn push(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: &[u8],
        size: usize,
        is_sensitive: bool,
    ) {
        let (Some(bytes), Some(fields)) = (
            self.bytes_left.checked_sub(size),
            self.fields_left.checked_sub(1),
        ) else {
            self.cut();
            if self.is_kind(token, value.len()) {
                self.list.push_sized(token, name, value, size, is_sensitive);
            }
            return;
        };
        (self.bytes_left, self.fields_left) = (bytes, fields);
        self.list.push_sized(token, name, value, size, is_sensitive);
    }

    /// Add a field whose value is still a string of the block. Returns the value where there is room for it.
    #[inline]
    pub(super) fn push_text(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: Text<'_>,
        is_sensitive: bool,
    ) -> Result<Option<&[u8]>, Malformed> {
        let Some(room) = self.room(name.len()) else {
            self.cut();
            return self.push_kind(token, value, is_sensitive);
        };
        let mut most = value.bytes.len();
        if value.is_huffman {
            most = huffman::most_decoded(most);
            if most > room {
                // It may still fit: count before any memory is taken.
                most = value.length()?;
            }
        }
        if most > room {
            self.cut();
            return self.push_kind(token, value, is_sensitive);
        }
        let at = self.list.begin(token, name);
        match value.is_huffman {
            true => huffman::decode_up_to(value.bytes, most, self.list.bytes_mut())?,
            false => self.list.bytes_mut().extend_from_slice(value.bytes),
        }
        let value = self.list.finish(at, token, name.len(), is_sensitive);
        self.fields_left -= 1;
        self.bytes_left = room - value.len();
        Ok(Some(value))
    }

    /// Add the content type, where it is this field that found no room.
    #[cold]
    fn push_kind(
        &mut self,
        token: Option<Token>,
        value: Text<'_>,
        is_sensitive: bool,
    ) -> Result<Option<&[u8]>, Malformed> {
        if token != Some(Token::CONTENT_TYPE) || !self.is_kind(token, value.length()?) {
            return Ok(None);
        }
        let at = self.list.begin(token, &[]);
        match value.is_huffman {
            true => huffman::decode_up_to(value.bytes, MOST_KIND, self.list.bytes_mut())?,
            false => self.list.bytes_mut().extend_from_slice(value.bytes),
        }
        Ok(Some(self.list.finish(at, token, 0, is_sensitive)))
    }
}
