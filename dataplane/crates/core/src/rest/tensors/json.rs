//! A reader of JSON (RFC 8259) that makes no tree: what a message is made of goes where it belongs as it is read, numbers
//! as the digits that were sent. Beyond the standard it reads `NaN`, `Infinity` and `-Infinity` as numbers, as TF Serving
//! and Python do. A key that appears twice in an object, and nesting beyond a limit, are errors.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};

/// Arrays and objects within each other.
const MAX_DEPTH: usize = 64;
/// Longest number, bytes: more digits than any type has say nothing.
const MAX_NUMBER: usize = 512;
/// Bytes of a value that an error repeats.
const SHOWN: usize = 40;

/// What a value is, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A place in a document. After an error nothing more can be read.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

// === impl Kind ===

impl Kind {
    /// With its article, for an error's text.
    fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    /// Where the next value begins, bytes.
    pub fn place(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    /// The text of the document from a [`place`](Self::place) up to here.
    pub fn text_from(&self, place: usize) -> &'a [u8] {
        &self.bytes[place..self.at]
    }

    /// What the next value is.
    pub fn kind(&mut self) -> Result<Kind, Error> {
        self.skip_space();
        Ok(match self.bytes.get(self.at) {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Kind::Number,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            Some(_) => return Err(self.error("a value")),
            None => return Err(self.error("a value, not the end")),
        })
    }

    /// Whether an object comes next whose first key is this one.
    pub fn begins_with_key(&mut self, key: &str) -> bool {
        let (at, depth) = (self.at, self.depth);
        self.at += 1;
        let is_it = self.string().is_ok_and(|first| first == key);
        (self.at, self.depth) = (at, depth);
        is_it
    }

    /// Read an object; `field` reads the value of each key.
    pub fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.expect_kind(Kind::Object)?;
        self.enter()?;
        let mut keys = Keys::default();
        if !self.take(b'}') {
            loop {
                let place = self.place();
                let key = self.string()?;
                if !self.take(b':') {
                    return Err(self.error("\":\" behind a key"));
                }
                field(self, &key)?;
                if !keys.is_new(key) {
                    let key = shown(&self.bytes[place..]);
                    return Err(bad(format!("the key {key} appears twice, at byte {place}")));
                }
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return Err(self.error("\",\" or \"}\""));
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Read an array; `item` reads each value.
    pub fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.expect_kind(Kind::Array)?;
        self.enter()?;
        if !self.take(b']') {
            loop {
                item(self)?;
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return Err(self.error("\",\" or \"]\""));
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    pub fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        self.expect_kind(Kind::String)?;
        self.at += 1;
        let start = self.at;
        let rest = &self.bytes[start..];
        let plain = rest
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ');
        self.at += plain.unwrap_or(rest.len());
        if self.bytes.get(self.at) == Some(&b'"') {
            let text = self.utf8(start, self.at)?;
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        self.escaped(start)
    }

    /// The digits of a number, as they were sent; also `NaN` and the infinities.
    pub fn number(&mut self) -> Result<&'a str, Error> {
        self.expect_kind(Kind::Number)?;
        let start = self.at;
        let rest = &self.bytes[start..];
        for word in ["NaN", "Infinity", "-Infinity"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(word);
            }
        }
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        if length > MAX_NUMBER {
            return Err(bad(format!(
                "the number at byte {start} has {length} characters, limit {MAX_NUMBER}"
            )));
        }
        if !is_number(&rest[..length]) {
            return Err(self.error("a number"));
        }
        self.at += length;
        self.utf8(start, self.at)
    }

    pub fn bool(&mut self) -> Result<bool, Error> {
        self.expect_kind(Kind::Bool)?;
        if self.word(b"true") {
            Ok(true)
        } else if self.word(b"false") {
            Ok(false)
        } else {
            Err(self.error("true or false"))
        }
    }

    pub fn null(&mut self) -> Result<(), Error> {
        self.expect_kind(Kind::Null)?;
        if self.word(b"null") {
            Ok(())
        } else {
            Err(self.error("null"))
        }
    }

    /// Read over a value.
    pub fn skip(&mut self) -> Result<(), Error> {
        match self.kind()? {
            Kind::Object => self.object(|reader, _| reader.skip()),
            Kind::Array => self.array(Self::skip),
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.bool().map(drop),
            Kind::Null => self.null(),
        }
    }

    /// Check that nothing follows.
    pub fn end(&mut self) -> Result<(), Error> {
        self.skip_space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.error("the end"))
        }
    }

    fn expect_kind(&mut self, expected: Kind) -> Result<(), Error> {
        if self.kind()? == expected {
            Ok(())
        } else {
            Err(self.error(expected.name()))
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let at = self.at;
            return Err(bad(format!(
                "at byte {at} arrays and objects are nested deeper than {MAX_DEPTH}"
            )));
        }
        Ok(())
    }

    /// Go over a mark of punctuation, if it comes next.
    fn take(&mut self, mark: u8) -> bool {
        self.skip_space();
        let is_there = self.bytes.get(self.at) == Some(&mark);
        self.at += usize::from(is_there);
        is_there
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let is_there = self.bytes[self.at..].starts_with(word);
        self.at += if is_there { word.len() } else { 0 };
        is_there
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The rest of a string that has escapes.
    fn escaped(&mut self, start: usize) -> Result<Cow<'a, str>, Error> {
        let mut text = self.utf8(start, self.at)?.to_owned();
        loop {
            let plain = self.at;
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(byte) if *byte >= b' ' => {
                    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\') && **byte >= b' ';
                    self.at += self.bytes[plain..].iter().take_while(is_plain).count();
                    text.push_str(self.utf8(plain, self.at)?);
                }
                Some(_) => return Err(self.error("no control character inside a string")),
                None => return Err(self.error("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        self.at += 1;
        let letter = self.bytes.get(self.at).copied();
        self.at += 1;
        Ok(match letter {
            Some(mark @ (b'"' | b'\\' | b'/')) => char::from(mark),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at = self.bytes.len().min(self.at - 1);
                return Err(self.error("an escape"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char, Error> {
        let high = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&high) && self.word(b"\\u") {
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.error("the second half of a surrogate pair"));
            }
            0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or_else(|| self.error("a surrogate pair, whole"))
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let is_hex = digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let code = u32::from_str_radix(text, 16).ok().filter(|_| is_hex);
        let code = code.ok_or_else(|| self.error("four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }

    fn utf8(&self, from: usize, to: usize) -> Result<&'a str, Error> {
        std::str::from_utf8(&self.bytes[from..to])
            .map_err(|error| bad(format!("not UTF-8 at byte {}", from + error.valid_up_to())))
    }

    /// The error of something else than `expected` here.
    pub fn error(&self, expected: &str) -> Error {
        let place = self.at.min(self.bytes.len());
        let found = match &self.bytes[place..] {
            [] => "the body ends".to_owned(),
            rest => format!("there is {}", shown(rest)),
        };
        bad(format!("at byte {place} {found}, expected {expected}"))
    }
}

/// The keys of an object: few are compared one by one.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    many: rustc_hash::FxHashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    const FEW: usize = 16;

    fn is_new(&mut self, key: Cow<'a, str>) -> bool {
        if self.few.contains(&key) || self.many.contains(&key) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(key);
        } else {
            self.many.insert(key);
        }
        true
    }
}

/// Whether it has the form of a number: `-`, digits without a zero in front, a fraction, an exponent.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            plain => plain,
        };
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    rest.is_empty()
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
    let text = text.split(['\n', '\r']).next().unwrap_or_default();
    format!("`{text}`")
}

pub fn bad(text: String) -> Error {
    Error::new(ErrorKind::BadRequest, text)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
