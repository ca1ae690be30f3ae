//! Writes Prometheus's text format, version 0.0.4: one `# HELP` and `# TYPE` for each family, all samples
//! of a family together.

use std::fmt::Write;

use crate::stats::{BOUNDS, Snapshot};

/// The content type of what [`Exposition::finish`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Which of the bounds that are recorded a page shows.
#[derive(Debug)]
pub struct Buckets {
    /// Ascending positions in [`BOUNDS`], each with its value of the label `le`, in seconds.
    shown: Vec<(usize, String)>,
}

impl Buckets {
    /// Those nearest to the times asked for, so that each count is exact at the bound that its label names. Bounds are
    /// 9.05 % apart: the one shown is within 4.5 % of the one asked for. Of two that are asked for and are the same, one
    /// is shown.
    pub fn nearest(milliseconds: &[f64]) -> Self {
        let position = |wanted: f64| {
            let ratio = |position: usize| (BOUNDS[position] as f64 / (wanted * 1e6)).ln().abs();
            let above = BOUNDS.partition_point(|&bound| (bound as f64) < wanted * 1e6);
            let last = BOUNDS.len() - 1;
            let (below, above) = (above.saturating_sub(1), above.min(last));
            if ratio(below) < ratio(above) {
                below
            } else {
                above
            }
        };
        let mut positions: Vec<_> = milliseconds.iter().copied().map(position).collect();
        positions.dedup();
        let shown = positions.into_iter().map(|at| (at, seconds(BOUNDS[at])));
        Self {
            shown: shown.collect(),
        }
    }
}

/// Nanoseconds as seconds, exact and without trailing zeros.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Kinds of metric that are written.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Label names and values of one sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    /// Labels of the sample being written, reused.
    labels: String,
}

// === impl Exposition ===

impl Exposition {
    /// Begin a family; each name once a page.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, false);
        self.text.push_str("\n# TYPE ");
        self.text.push_str(name);
        self.text.push(' ');
        self.text.push_str(kind);
        self.text.push('\n');
        Family { page: self, name }
    }

    /// The finished page.
    pub fn finish(self) -> String {
        self.text
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        le: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        if le.is_some() || !self.labels.is_empty() {
            self.text.push('{');
            self.text.push_str(&self.labels);
            if let Some(le) = le {
                if !self.labels.is_empty() {
                    self.text.push(',');
                }
                self.text.push_str("le=\"");
                self.text.push_str(le);
                self.text.push('"');
            }
            self.text.push('}');
        }
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, " {value}");
    }

    fn set_labels(&mut self, labels: Labels<'_>) {
        self.labels.clear();
        for (i, (name, value)) in labels.iter().enumerate() {
            if i > 0 {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(&mut self.labels, value, true);
            self.labels.push('"');
        }
    }
}

/// One family of a page; samples of the same labels must not be written twice.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Exposition,
    name: &'a str,
}

// === impl Family ===

impl Family<'_> {
    /// Write one sample of a counter or gauge.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.page.set_labels(labels);
        self.page.sample(self.name, "", None, value);
    }

    /// Write one histogram: every bound, used or not. A bound that appeared only once it is used would have no rate in
    /// its first window, which is when latency has just gone up.
    pub fn histogram(&mut self, labels: Labels<'_>, counts: &Snapshot, buckets: &Buckets) {
        self.page.set_labels(labels);
        let mut shown = buckets.shown.iter().peekable();
        for (position, (_, total)) in counts.cumulative().enumerate() {
            if let Some((_, le)) = shown.next_if(|(at, _)| *at == position) {
                self.page.sample(self.name, "_bucket", Some(le), total);
            }
        }
        let count = counts.count();
        self.page.sample(self.name, "_bucket", Some("+Inf"), count);
        self.page
            .sample(self.name, "_sum", None, counts.sum_seconds());
        self.page.sample(self.name, "_count", None, count);
    }
}

/// Append a help text or label value with what the format reserves escaped; only labels are quoted.
fn escape(text: &mut String, value: &str, quoted: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
