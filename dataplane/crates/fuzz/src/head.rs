//! What stands in a call's head: its path, and `grpc-timeout`.

use std::time::Duration;

use dl_core::fuzzing::{GRPC_TIMEOUT, Headers, head, method, parse_timeout, put_timeout};

use crate::input::Input;

/// What is left of a timeout may be this many hours: eight digits.
const MOST_HOURS: u64 = 99_999_999;

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => path(&String::from_utf8_lossy(input.rest())),
        1 => timeout(input.rest()),
        _ => time_left(input.u64(), input.u32()),
    }
}

fn path(path: &str) {
    if let Some(method) = method::find(path) {
        assert_eq!(method.path, path);
        assert!(method::is_valid_path(path), "{path}");
        assert!(method::is_valid_path(method.upstream.as_str()), "{path}");
    }
    assert_eq!(method::is_valid_path(path), has_form(path), "{path:?}");
    let short = head::shortened(path);
    assert!(path.starts_with(&short) && short.chars().count() <= 256);
}

/// `/` + 1 to 256 of `A-Z a-z 0-9 _ .` + `/` + 1 to 128 of `A-Z a-z 0-9 _`.
fn has_form(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let ["", service, name] = parts[..] else {
        return false;
    };
    let fits = |text: &str, most: usize, more: &str| {
        let fits =
            |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_') || more.contains(c);
        (1..=most).contains(&text.len()) && text.chars().all(fits)
    };
    fits(service, 256, ".") && fits(name, 128, "")
}

fn timeout(text: &[u8]) {
    let read = parse_timeout(text).ok();
    assert_eq!(read.map(|it| it.as_nanos()), nanos(text), "{text:?}");
    let headers = Headers::from_iter([(GRPC_TIMEOUT, text)]);
    assert_eq!(head::timeout(&headers).ok().flatten(), read);
}

/// One to eight digits and a unit, by the protocol's own words.
fn nanos(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok()?;
    let unit = match text.chars().last()? {
        'H' => 3_600_000_000_000,
        'M' => 60_000_000_000,
        'S' => 1_000_000_000,
        'm' => 1_000_000,
        'u' => 1_000,
        'n' => 1,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    // `+` would parse, too.
    let is_number = (1..=8).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit());
    let value: u128 = is_number.then(|| digits.parse().ok())??;
    Some(value * unit)
}

/// What is sent on never gives more time than there was, and not much less.
fn time_left(seconds: u64, nanos: u32) {
    let left = Duration::new(seconds, nanos % 1_000_000_000);
    let mut headers = Headers::new();
    put_timeout(&mut headers, left);
    let value = headers.get(GRPC_TIMEOUT).unwrap_or_default();
    let sent = match parse_timeout(value) {
        Ok(sent) => sent,
        Err(error) => panic!("{left:?} was sent as {value:?}: {error:?}"),
    };
    // 0 would be no timeout for some servers.
    assert!(!sent.is_zero(), "{left:?}");
    assert!(
        sent <= left.max(Duration::from_nanos(1)),
        "{left:?}: {value:?}"
    );
    if left < Duration::from_secs(MOST_HOURS * 3600) && left >= Duration::from_micros(10) {
        let part = if left < Duration::from_secs(1) {
            10
        } else {
            100
        };
        assert!(left - sent <= left / part, "{left:?}: {value:?}");
    }
}
