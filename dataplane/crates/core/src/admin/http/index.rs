//! The page of `/`: links to the other pages, and /status as tables. One file without scripts, styles or pictures from
//! elsewhere, so that it works wherever the port can be reached.

use std::fmt::Write;

use serde_json::{Map, Value};

/// What each page is for, by its path.
pub const PAGES: [(&str, &str); 4] = [
    (
        "/metrics",
        "counters and latencies in Prometheus's text format",
    ),
    (
        "/ready",
        "200 while calls are welcome, else 503 and the reason; then the sources that cannot be read",
    ),
    ("/live", "200 while the process runs"),
    ("/status", "what the data plane sees, as JSON"),
];

/// What more there is where calls are routed.
pub const MORE: [(&str, &str); 4] = [
    (
        "/history",
        "the last ten minutes second by second, as JSON; /history/MODEL that of one model",
    ),
    ("/events", "each second as it comes, as server-sent events"),
    (
        "/calls",
        "calls that are remembered, as JSON: /calls?which=slow, ?which=failed, /calls/REQUEST_ID",
    ),
    ("/errors", "the kinds of errors and what helps, as JSON"),
];

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>dl-inference</title>
<link rel=\"icon\" href=\"data:,\">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
h1 { font-size: 1.4em; margin: 0; } summary { font-size: 1.1em; font-weight: 600; margin: 1.6em 0 0.4em; cursor: pointer; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: 0.2em 0.9em 0.2em 0; border-bottom: 1px solid #ddd; }
th { font-weight: 600; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td table { font-size: 0.93em; } td.no { color: #b00020; font-weight: 600; } .note { color: #666; }
ul { padding-left: 1.2em; }
@media (prefers-color-scheme: dark) {
body { color: #ddd; background: #1b1b1b; } a { color: #8ab4f8; } th, td { border-color: #444; }
td.no { color: #ff8a80; } .note { color: #aaa; }
}
</style>
</head>
<body>
";

/// Write the page. `status` is the document of /status, `state` the first line of /ready.
pub fn page(status: &Value, state: &str) -> String {
    let mut html = HEAD.to_owned();
    html.push_str("<h1>dl-inference: ");
    text(&mut html, state);
    html.push_str("</h1>\n<ul>\n");
    for (path, what) in PAGES {
        // Writing into a String cannot fail.
        let _ = write!(html, "<li><a href=\"{path}\">{path}</a> ");
        text(&mut html, what);
        html.push_str("</li>\n");
    }
    html.push_str("</ul>\n");
    if let Value::Object(fields) = status {
        let (nested, plain): (Vec<_>, Vec<_>) =
            fields.iter().partition(|(_, value)| is_nested(value));
        html.push_str("<table>\n");
        for (name, field) in plain {
            row(&mut html, name, field);
        }
        html.push_str("</table>\n");
        for (name, field) in nested {
            html.push_str("<details open>\n<summary>");
            text(&mut html, &words(name));
            html.push_str("</summary>\n");
            value(&mut html, field);
            html.push_str("\n</details>\n");
        }
    }
    html.push_str("<p class=\"note\">The page shows one moment; load it again for the next.</p>\n</body>\n</html>\n");
    html
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

fn row(html: &mut String, name: &str, field: &Value) {
    html.push_str("<tr><th>");
    text(html, &words(name));
    html.push_str("</th>");
    cell(html, name, field);
    html.push_str("</tr>\n");
}

/// False is an alarm in some fields only.
fn cell(html: &mut String, name: &str, field: &Value) {
    html.push_str(match field {
        Value::Number(_) => "<td class=\"number\">",
        Value::Bool(false) if matches!(name, "live" | "ready" | "ok") => "<td class=\"no\">",
        _ => "<td>",
    });
    value(html, field);
    html.push_str("</td>");
}

fn value(html: &mut String, shown: &Value) {
    match shown {
        Value::Null => html.push('–'),
        Value::Bool(set) => html.push_str(if *set { "yes" } else { "no" }),
        Value::Number(number) => {
            let _ = write!(html, "{number}");
        }
        Value::String(string) => text(html, string),
        Value::Array(items) => list(html, items),
        Value::Object(fields) if fields.is_empty() => {
            html.push_str("<span class=\"note\">none</span>")
        }
        Value::Object(fields) => {
            html.push_str("<table>\n");
            for (name, field) in fields {
                row(html, name, field);
            }
            html.push_str("</table>");
        }
    }
}

/// Objects are the rows of one table, with a column for each field that any of them has; other items are lines.
fn list(html: &mut String, items: &[Value]) {
    if items.is_empty() {
        return html.push_str("<span class=\"note\">none</span>");
    }
    let rows: Vec<&Map<_, _>> = items.iter().filter_map(Value::as_object).collect();
    if rows.len() < items.len() {
        for (position, item) in items.iter().enumerate() {
            html.push_str(if position > 0 { "<br>" } else { "" });
            value(html, item);
        }
        return;
    }
    let mut columns: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    // What a row is of comes first, what is a table itself last; the others stay in their order.
    columns.sort_by_key(|name| {
        let is_name = matches!(name.as_str(), "name" | "address" | "cluster");
        (
            !is_name,
            rows.iter().any(|row| row.get(*name).is_some_and(is_nested)),
        )
    });
    html.push_str("<table>\n<tr>");
    for name in &columns {
        html.push_str("<th>");
        text(html, &words(name));
        html.push_str("</th>");
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for name in &columns {
            cell(html, name, row.get(*name).unwrap_or(&Value::Null));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>");
}

/// A field's name as words.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Append text with what HTML reserves escaped.
fn text(html: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_links_every_page_and_shows_rows_with_all_their_columns() {
        let status = json!({
            "version": "1", "draining": false, "control": {},
            "clusters": [
                {"endpoints": [{"address": "a:1", "live": true}, {"address": "b:1", "live": false}], "name": "fleet"},
                {"endpoints": [], "name": "other", "policy": "dwrr"},
            ],
        });
        let html = page(&status, "ready");
        for (path, _) in PAGES {
            assert!(html.contains(&format!("<a href=\"{path}\">")), "{path}");
        }
        for part in [
            "<tr><th>version</th><td>1</td></tr>",
            "<tr><th>draining</th><td>no</td></tr>",
            "<tr><th>name</th><th>policy</th><th>endpoints</th></tr>",
            "<tr><td>a:1</td><td>yes</td></tr>",
            "<tr><td>b:1</td><td class=\"no\">no</td></tr>",
            "<td>other</td><td>dwrr</td>",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        for tag in [
            "table", "tr", "td", "th", "ul", "li", "span", "details", "summary",
        ] {
            let (open, end) = (format!("<{tag}"), format!("</{tag}>"));
            let opened = html.matches(&format!("{open}>")).count()
                + html.matches(&format!("{open} ")).count();
            assert_eq!(opened, html.matches(&end).count(), "{tag}");
        }
    }

    #[test]
    fn what_names_hold_is_text_and_never_markup() {
        let evil = "<script>alert('x')</script>&\"";
        let mut fields = Map::new();
        fields.insert(evil.to_owned(), json!([{evil: evil}, {"b": [evil]}]));
        fields.insert("plain".to_owned(), evil.into());
        let html = page(&Value::Object(fields), evil);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"));
        assert!(!html.contains("http"), "nothing comes from elsewhere");
    }
}
