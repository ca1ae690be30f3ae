//! How many access services a call has passed. Those that name each other as endpoints would pass it round and round, so
//! it is counted, and refused in the end.

use crate::call::head::shortened;
use crate::error::{Error, ErrorKind};
use crate::headers::{Headers, Token};

/// Metadata: the access services that a call has passed.
const HOPS: Token = Token::X_DL_INFERENCE_HOPS;
/// What it says: more than any fleet has, one behind the other.
const VALUES: [&str; 8] = ["1", "2", "3", "4", "5", "6", "7", "8"];

/// Count this access service.
///
/// # Errors
/// `too_many_hops`: the call has passed as many as may be; `bad_request`: the metadata hold no such number.
pub fn count(headers: &mut Headers) -> Result<(), Error> {
    let passed = match headers.get(HOPS) {
        None => 0,
        Some(value) => match VALUES.iter().position(|each| each.as_bytes() == value) {
            Some(index) => index + 1,
            None => return Err(no_number(value)),
        },
    };
    let Some(value) = VALUES.get(passed) else {
        let message = format!(
            "the call has passed {passed} access services, as many as it may ({HOPS}): they name each other as \
             endpoints; name the model servers instead"
        );
        return Err(Error::new(ErrorKind::TooManyHops, message));
    };
    headers.set(HOPS, value);
    Ok(())
}

fn no_number(value: &[u8]) -> Error {
    let text = std::str::from_utf8(value).ok().filter(|it| it.is_ascii());
    let (shown, most) = (shortened(text.unwrap_or("no text")), VALUES.len());
    let message = format!(
        "{HOPS} is {shown}, not a number from 1 to {most}: leave it out, the access service sets it"
    );
    Error::new(ErrorKind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_passes_eight_access_services_and_no_more() {
        let mut headers = Headers::new();
        for passed in 1..=8 {
            count(&mut headers).expect("one more may be passed");
            assert_eq!(headers.text(HOPS), Some(&*passed.to_string()));
        }
        let error = count(&mut headers).expect_err("eight are enough");
        assert_eq!(error.kind, ErrorKind::TooManyHops);
        assert!(
            error.message.contains("passed 8 access services"),
            "{error}"
        );
    }

    #[test]
    fn another_value_is_a_bad_request() {
        for bad in ["", "0", "9", "-1", "01", "many", "\u{e9}"] {
            let mut headers = Headers::new();
            headers.push(HOPS, bad);
            let error = count(&mut headers).expect_err(bad);
            assert_eq!(error.kind, ErrorKind::BadRequest);
        }
    }
}
