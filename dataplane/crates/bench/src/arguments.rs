//! Command-line arguments: `--name value` pairs and positional words, nothing else.

use std::collections::BTreeMap;

/// What was typed, each option once or (for `--header`) several times.
#[derive(Debug, Default)]
pub struct Arguments {
    options: BTreeMap<String, Vec<String>>,
    pub positional: Vec<String>,
}

impl Arguments {
    /// Read the words after the program's name.
    ///
    /// # Errors
    /// An option that is not in `allowed`, or has no value.
    pub fn parse(
        words: impl Iterator<Item = String>,
        allowed: &[&str],
    ) -> Result<Arguments, String> {
        let mut parsed = Arguments::default();
        let mut words = words;
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                parsed.positional.push(word);
                continue;
            };
            if !allowed.contains(&name) {
                return Err(format!(
                    "unknown option --{name}; known: --{}",
                    allowed.join(" --")
                ));
            }
            let value = words
                .next()
                .ok_or_else(|| format!("--{name} needs a value"))?;
            parsed
                .options
                .entry(name.to_owned())
                .or_default()
                .push(value);
        }
        Ok(parsed)
    }

    /// Every value given for an option.
    #[must_use]
    pub fn all(&self, name: &str) -> &[String] {
        self.options.get(name).map_or(&[], Vec::as_slice)
    }

    /// The last value given, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// The last value given, as a number.
    ///
    /// # Errors
    /// The value is no number of this type.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("--{name} {text}: not a number"))
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(
            line.split(' ').map(str::to_owned),
            &["rate", "header", "body"],
        )
    }

    #[test]
    fn options_and_words_may_come_in_any_order() {
        let parsed = parse("one --rate 200 two --header a=b --header c=d").unwrap();
        assert_eq!(parsed.positional, ["one", "two"]);
        assert_eq!(parsed.number::<f64>("rate"), Ok(Some(200.0)));
        assert_eq!(parsed.all("header"), ["a=b", "c=d"]);
        assert_eq!(parsed.text("body"), None);
    }

    #[test]
    fn an_unknown_option_or_a_missing_value_is_refused() {
        assert!(parse("--rats 3").unwrap_err().contains("unknown option"));
        assert!(parse("--rate").unwrap_err().contains("needs a value"));
        assert!(
            parse("--rate fast")
                .unwrap()
                .number::<f64>("rate")
                .unwrap_err()
                .contains("not a number")
        );
    }
}
