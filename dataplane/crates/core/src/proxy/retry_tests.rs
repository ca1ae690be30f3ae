//! Statuses and times.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_status_counts_by_its_code_and_resource_exhausted_never() {
    let names = ["UNAVAILABLE", "UNKNOWN", "RESOURCE_EXHAUSTED"];
    let failure_codes = CodeSet::from_names(&names).expect("names of codes");
    for code in Code::ALL {
        let expected = match code {
            Code::Ok => Outcome::Success,
            Code::Unavailable | Code::Unknown => Outcome::Hard,
            _ => Outcome::Neutral,
        };
        assert_eq!(status_outcome(code, failure_codes), expected, "{code:?}");
    }
}

#[test]
fn a_deadline_counts_only_when_the_endpoint_held_the_call_long_enough() {
    assert_eq!(time_outcome(ms(9), ms(1)), Outcome::Neutral);
    assert_eq!(time_outcome(ms(10), ms(1)), Outcome::Soft);
    assert_eq!(time_outcome(ms(49), ms(50)), Outcome::Neutral);
    assert_eq!(time_outcome(ms(50), ms(50)), Outcome::Soft);
}

#[test]
fn a_limit_is_nearly_over_at_nine_tenths_or_all_but_five_ms() {
    for (elapsed, limit, expected) in [
        (899, 1000, false),
        (900, 1000, true),
        (14, 20, false),
        (15, 20, true),
        (0, 5, true),
        (2000, 1000, true),
    ] {
        assert_eq!(
            is_nearly_over(ms(elapsed), ms(limit)),
            expected,
            "{elapsed} of {limit} ms"
        );
    }
}

#[test]
fn a_code_set_has_the_codes_named_and_no_other() {
    let set = CodeSet::from_names(&["UNAVAILABLE", "UNAUTHENTICATED"]).expect("names of codes");
    for code in Code::ALL {
        let named = matches!(code, Code::Unavailable | Code::Unauthenticated);
        assert_eq!(set.contains(code), named, "{code:?}");
    }
}

#[test]
fn a_code_set_refuses_what_is_no_error_code() {
    for name in ["OK", "unavailable", "", "14"] {
        let error = CodeSet::from_names(&["UNAVAILABLE", name]).expect_err("refused");
        assert!(error.contains(&format!("{name:?}")), "{error}");
    }
    assert_eq!(CodeSet::from_names::<String>(&[]), Ok(CodeSet::default()));
}
