//! Seldon's own client of a server sends its JSON as the field `json` of a form.

use std::borrow::Cow;

use crate::error::Error;
use crate::headers::{Headers, Token};
use crate::rest::tensors::json::bad;
use crate::rest::web::data_uri::percent_decoded;

const FORM: &str = "application/x-www-form-urlencoded";

/// The JSON of a body, which may be a form.
///
/// # Errors
/// `bad_request`: a form without that field, or with wrong escapes.
pub fn json_of<'a>(headers: &Headers, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
    let content_type = headers.text(Token::CONTENT_TYPE);
    let is_form = content_type.is_some_and(|it| it.starts_with(FORM));
    // curl says that of every body that it is given.
    if !is_form || body.trim_ascii_start().starts_with(b"{") {
        return Ok(body.into());
    }
    let mut fields = body.split(|byte| *byte == b'&');
    let field = fields.find_map(|field| field.strip_prefix(b"json="));
    let field = field.ok_or_else(|| {
        bad("a form has the message in its field json; or send application/json".to_owned())
    })?;
    let spaced: Vec<u8> = field
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let json = percent_decoded(&spaced);
    let json = json.ok_or_else(|| bad("the form has an escape that is none".to_owned()))?;
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &'static str, body: &str) -> String {
        let headers = Headers::from_iter([(Token::CONTENT_TYPE, content_type)]);
        match json_of(&headers, body.as_bytes()) {
            Ok(json) => String::from_utf8(json.into_owned()).unwrap(),
            Err(error) => error.message.into_owned(),
        }
    }

    #[test]
    fn the_message_of_a_form_is_its_field_and_other_bodies_are_messages() {
        assert_eq!(of("application/json", "json=%7B"), "json=%7B");
        assert_eq!(of(FORM, "a=b&json=%7B%22a%22%3a+1%7d&c"), "{\"a\": 1}");
        assert_eq!(of(FORM, " {\"a\": \"&json=\"}"), " {\"a\": \"&json=\"}");
        assert!(of(FORM, "jso=1").contains("in its field json"));
        for wrong in ["json=%", "json=%7", "json=%zz"] {
            assert_eq!(of(FORM, wrong), "the form has an escape that is none");
        }
    }
}
