//! One entry of `meta.tags`, map<string, google.protobuf.Value>, as its fields come, in any order.

use super::{MAX_KEY_BYTES, bad, name};
use crate::error::Error;
use crate::grpc::wire::Value;

/// Above this a double no longer tells neighbouring integers apart.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The entry under way. The last of each field counts, as in every protobuf implementation.
#[derive(Debug, Default)]
pub struct Tag {
    /// Which key path the entry's name is; `None` for a tag that routes nothing.
    index: Option<usize>,
    value: TagValue,
}

#[derive(Debug, Default)]
enum TagValue {
    #[default]
    Unset,
    Number(f64),
    Text(Vec<u8>),
    TooLong(usize),
    /// null, bool, struct or list.
    Other,
}

impl Tag {
    pub fn set_name(&mut self, name: &[u8], tags: &[String]) {
        self.index = tags
            .iter()
            .position(|tag| !tag.is_empty() && tag.as_bytes() == name);
    }

    pub fn set_number(&mut self, number: f64) {
        self.value = TagValue::Number(number);
    }

    pub fn set_text(&mut self, text: &[u8]) {
        // The name may still come, so a long text is not an error yet, but no reason to keep it either.
        self.value = if text.len() > MAX_KEY_BYTES {
            TagValue::TooLong(text.len())
        } else {
            TagValue::Text(text.to_vec())
        };
    }

    /// A value that is no key: of another kind, or a text beyond what the scanner keeps.
    pub fn set_other(&mut self, value: Value<'_>) {
        self.value = match value {
            Value::TooLong(length) => TagValue::TooLong(length),
            _ => TagValue::Other,
        };
    }

    /// Return the key path's position and the name it gives; `None` when the entry is another tag.
    ///
    /// Errors: bad_route_key when the value of a tag that routes can be no name.
    pub fn key(self, tags: &[String]) -> Result<Option<(usize, String)>, Error> {
        let Some(index) = self.index else {
            return Ok(None);
        };
        let what = format!("tag {}", tags[index]);
        let key = match self.value {
            TagValue::Text(text) => name(&what, Value::Bytes(&text))?,
            TagValue::TooLong(length) => name(&what, Value::TooLong(length))?,
            TagValue::Number(number) => integer(&what, number)?,
            TagValue::Unset | TagValue::Other => {
                return Err(bad(format!("the {what} is neither a number nor a text")));
            }
        };
        Ok(Some((index, key)))
    }
}

/// Cut a number to an integer, as Java's `(int)` does, which the dl_inference service's clients rely on.
/// There, ids below 1 and NaN found no task; here they are said to be wrong.
fn integer(what: &str, number: f64) -> Result<String, Error> {
    // False for NaN.
    if (1.0..=MAX_EXACT).contains(&number) {
        Ok((number as i64).to_string())
    } else {
        Err(bad(format!(
            "the {what} is {number}, must be a number from 1 on, or a text"
        )))
    }
}
