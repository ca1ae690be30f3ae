//! The `grpc-timeout` header: a caller's timeout in, the time left out.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::headers::{Headers, Token};

/// The request header that carries a timeout.
pub const GRPC_TIMEOUT: Token = Token::GRPC_TIMEOUT;

/// gRPC allows at most eight digits.
const MAX_VALUE: u64 = 99_999_999;

/// Below this, microseconds are sent: cutting 1.9 ms to 1 ms would take half of the time left.
const MICROSECONDS_BELOW: Duration = Duration::from_millis(10);

/// Timeouts from this on need not be exact to a millisecond.
const COARSE_FROM: Duration = Duration::from_secs(1);

/// Parse `grpc-timeout`: one to eight digits and a unit out of `HMSmun`.
///
/// Errors: bad_request for anything else.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, Error> {
    parse(value).ok_or_else(|| {
        let text = String::from_utf8_lossy(value);
        Error::new(
            ErrorKind::BadRequest,
            format!("grpc-timeout {text:?} is not one to eight digits and a unit out of H, M, S, m, u, n"),
        )
    })
}

fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Let a list have this `grpc-timeout` alone: rounded down to a unit that fits eight digits, but never to 0,
/// which some servers take for "no timeout".
///
/// From 1 s on at most 1 % is cut off, so that values repeat from call to call: HPACK then sends one byte.
pub fn put_timeout(headers: &mut Headers, timeout: Duration) {
    let (value, unit) = in_unit(timeout);
    let value = if timeout < COARSE_FROM {
        value
    } else {
        coarse(value)
    };
    headers.set(GRPC_TIMEOUT, Text::of(value, unit));
}

/// At most eight digits, and a unit.
struct Text {
    bytes: [u8; 9],
    start: usize,
}

impl Text {
    fn of(value: u64, unit: u8) -> Self {
        let mut bytes = [0_u8; 9];
        bytes[8] = unit;
        let mut start = 8;
        let mut rest = value;
        loop {
            start -= 1;
            // A remainder of 10 fits u8.
            bytes[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 || start == 0 {
                return Self { bytes, start };
            }
        }
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// The three leading digits of a value, and zeros.
fn coarse(value: u64) -> u64 {
    let mut step = 1;
    while value >= 1000 * step {
        step *= 10;
    }
    value - value % step
}

/// The largest value of at most eight digits in the finest unit that is worth it.
fn in_unit(timeout: Duration) -> (u64, u8) {
    let seconds = timeout.as_secs();
    if timeout < Duration::from_micros(1) {
        return (u64::from(timeout.subsec_nanos()).max(1), b'n');
    }
    if timeout < MICROSECONDS_BELOW {
        return (u64::from(timeout.subsec_micros()), b'u');
    }
    if seconds < (MAX_VALUE + 1) / 1000 {
        return (seconds * 1000 + u64::from(timeout.subsec_millis()), b'm');
    }
    if seconds <= MAX_VALUE {
        (seconds, b'S')
    } else if seconds / 60 <= MAX_VALUE {
        (seconds / 60, b'M')
    } else {
        ((seconds / 3600).min(MAX_VALUE), b'H')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        parse_timeout(text.as_bytes()).ok()
    }

    fn formatted(timeout: Duration) -> String {
        let mut headers = Headers::from_iter([(GRPC_TIMEOUT, "another")]);
        put_timeout(&mut headers, timeout);
        let mut fields = headers.iter();
        let field = fields.next().expect("a timeout");
        assert!(fields.next().is_none());
        field.text().expect("text").into()
    }

    #[test]
    fn each_unit_is_read() {
        assert_eq!(parsed("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parsed("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parsed("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parsed("00000004m"), Some(Duration::from_millis(4)));
        assert_eq!(parsed("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parsed("0n"), Some(Duration::ZERO));
        assert_eq!(
            parsed("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "m",
            "5",
            "5s",
            "5h",
            "5 m",
            " 5m",
            "+5m",
            "-5m",
            "5.5S",
            "123456789m",
            "0x5m",
            "5mm",
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        let error = parse_timeout(b"soon").unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest);
    }

    #[test]
    fn the_unit_changes_where_eight_digits_end() {
        let rows = [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(999), "999n"),
            (Duration::from_nanos(1_999), "1u"),
            (Duration::from_micros(9_999), "9999u"),
            (Duration::from_micros(10_999), "10m"),
            (Duration::from_millis(800), "800m"),
            (Duration::from_millis(999), "999m"),
            (Duration::from_millis(1_239), "1230m"),
            (Duration::from_millis(59_999), "59900m"),
            (Duration::from_millis(99_999_999), "99900000m"),
            (Duration::from_millis(100_000_000), "100000S"),
            (Duration::from_secs(99_999_999), "99900000S"),
            (Duration::from_secs(100_000_000), "1660000M"),
            (Duration::from_secs(99_999_999 * 60 + 59), "99900000M"),
            (Duration::from_secs(100_000_000 * 60), "1660000H"),
            (Duration::MAX, "99900000H"),
        ];
        for (timeout, text) in rows {
            assert_eq!(formatted(timeout), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(2), ..ProptestConfig::default() })]

        #[test]
        fn a_formatted_timeout_is_read_back_no_longer_and_at_most_a_tenth_shorter(nanos in 1_000_u64..=u64::MAX) {
            let timeout = Duration::from_nanos(nanos);
            let back = parsed(&formatted(timeout)).unwrap();
            prop_assert!(back <= timeout);
            prop_assert!(timeout < Duration::from_micros(10) || timeout - back <= timeout / 10);
            prop_assert!(timeout < COARSE_FROM || timeout - back <= timeout / 100);
        }
    }
}
