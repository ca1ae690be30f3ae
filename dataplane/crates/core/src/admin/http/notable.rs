//! `/calls?which=slow|failed[&model=NAME][&limit=N]`: the calls of the last ten minutes that stand out.

use super::percent::decoded;
use super::{AdminPages, NotableCalls};

/// Calls that are told unless the query says how many, and at most.
const LIMIT: usize = 50;
const MOST: usize = 1000;

/// Answer a query; none for what is no such page.
///
/// # Errors
/// Says what is wrong with it.
pub fn answer(query: &str, pages: &dyn AdminPages) -> Option<Result<String, String>> {
    match read(query) {
        Ok(which) => pages.notable_calls_json(&which).map(Ok),
        Err(text) => Some(Err(text)),
    }
}

fn read(query: &str) -> Result<NotableCalls, String> {
    let mut which = None;
    let (mut model, mut limit) = (None, LIMIT);
    for field in query.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let shown: String = value.chars().take(64).collect();
        // As forms write it, a blank is a plus.
        let value = decoded(&value.replace('+', " "))
            .ok_or_else(|| format!("{shown:?} is not UTF-8 in percent-encoding\n"))?;
        match name {
            "which" => {
                which = Some(match value.as_str() {
                    "slow" => false,
                    "failed" => true,
                    _ => return Err(format!("which={shown:?}: use slow or failed\n")),
                });
            }
            "model" => model = Some(value),
            "limit" => {
                let number = value.parse().ok().filter(|it| (1..=MOST).contains(it));
                limit = number
                    .ok_or_else(|| format!("limit={shown:?}: use a number from 1 to {MOST}\n"))?;
            }
            // A page may put what it likes behind, against caches for example.
            _ => {}
        }
    }
    let is_failed = which.ok_or("which calls? use /calls?which=slow or /calls?which=failed\n")?;
    Ok(NotableCalls {
        is_failed,
        model,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_its_escapes_and_refused_with_what_it_may_be() {
        let slow = NotableCalls {
            is_failed: false,
            model: None,
            limit: LIMIT,
        };
        assert_eq!(read("which=slow"), Ok(slow.clone()));
        let of_model = NotableCalls {
            is_failed: true,
            model: Some("a&b=c <script>é".to_owned()),
            limit: 7,
        };
        let query = "_=1&model=a%26b%3dc+%3Cscript%3E%C3%A9&limit=7&which=failed";
        assert_eq!(read(query), Ok(of_model));
        for (query, part) in [
            ("", "which=slow"),
            ("model=m", "which=slow"),
            ("which=fast", "\"fast\""),
            ("which=slow&limit=0", "1 to 1000"),
            ("which=slow&limit=1001", "1 to 1000"),
            ("which=slow&limit=x", "\"x\""),
            ("which=slow&model=%f", "percent-encoding"),
            ("which=slow&model=%ff", "percent-encoding"),
        ] {
            let text = read(query).expect_err(query);
            assert!(text.contains(part), "{query}: {text}");
        }
    }
}
