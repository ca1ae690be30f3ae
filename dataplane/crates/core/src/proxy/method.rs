//! The method table: `protos/methods.toml`, compiled in and parsed once. `:path` -> [`Method`].

use std::sync::LazyLock;

use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::route_key::plan::Plan;

#[cfg(not(feature = "conformance"))]
const TABLE: &str = include_str!("../../../../../protos/methods.toml");
#[cfg(feature = "conformance")]
const TABLE: &str = include_str!("../../../../../tests/interop/conformance/methods.toml");

/// What the access service does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Predict,
    Metadata,
    /// Answered by the access service itself.
    Local,
    /// Refused unless `admin_methods` allows it.
    Admin,
}

/// Whose rules the endpoint follows; selects `failure_codes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tfs,
    Seldon,
    Oip,
    /// The access service's own: health and reflection.
    None,
}

/// How many messages go each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streaming {
    #[default]
    Unary,
    /// One request, many answers.
    Server,
    Bidi,
}

/// Which message lists versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lists {
    /// TF Serving's GetModelStatusResponse.
    Status,
    /// The Open Inference Protocol's ModelMetadataResponse.
    Metadata,
}

/// One RPC.
#[derive(Debug)]
pub struct Method {
    /// Position in [`all`]; an index for tables by method.
    pub id: usize,
    /// What the caller calls, e.g. `/seldon.protos.Model/Predict`.
    pub path: String,
    /// What the endpoint is called.
    pub upstream: String,
    pub kind: Kind,
    pub protocol: Protocol,
    /// May be sent to another endpoint after it was sent to one.
    pub idempotent: bool,
    pub streaming: Streaming,
    /// When no model has the whole name, [`task_id_of`](crate::call::task_id::task_id_of) it is tried.
    pub task_id: bool,
    /// Which list of versions the answer is: the routed ones are added to it.
    pub lists: Option<Lists>,
    /// Where the route key is; [`Plan::is_empty`] for methods that name no model.
    pub plan: Plan,
}

/// The method with this `:path`; `None` when the table has none.
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS.by_path.get(path).map(|id| &METHODS.methods[*id])
}

/// Every method, in the order of the table.
pub fn all() -> &'static [Method] {
    &METHODS.methods
}

/// Whether `:path` has the form of a gRPC method: `/` + 1 to 256 of `A-Z a-z 0-9 _ .` + `/` + 1 to 128 of
/// `A-Z a-z 0-9 _`. Only such a path may be named in logs and messages.
pub fn is_valid_path(path: &str) -> bool {
    let Some((service, name)) = path.strip_prefix('/').and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=256).contains(&service.len())
        && service.bytes().all(|byte| word(byte) || byte == b'.')
        && (1..=128).contains(&name.len())
        && name.bytes().all(word)
}

struct Table {
    methods: Vec<Method>,
    by_path: FxHashMap<String, usize>,
}

static METHODS: LazyLock<Table> = LazyLock::new(|| {
    // Cannot fail: the text is compiled in, and a unit test parses the same text.
    parse(TABLE).unwrap_or_else(|error| panic!("protos/methods.toml: {error}"))
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    method: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    path: String,
    upstream: Option<String>,
    kind: Kind,
    protocol: Protocol,
    #[serde(default)]
    key: Vec<String>,
    version: Option<String>,
    label: Option<String>,
    idempotent: Option<bool>,
    #[serde(default)]
    streaming: Streaming,
    #[serde(default)]
    task_id: bool,
    lists: Option<Lists>,
}

fn parse(text: &str) -> Result<Table, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut table = Table {
        methods: Vec::new(),
        by_path: FxHashMap::default(),
    };
    for (id, row) in file.method.into_iter().enumerate() {
        let path = row.path.clone();
        let method = method(id, row).map_err(|error| format!("{path}: {error}"))?;
        if table.by_path.insert(path.clone(), id).is_some() {
            return Err(format!("{path}: appears twice"));
        }
        table.methods.push(method);
    }
    Ok(table)
}

fn method(id: usize, row: Row) -> Result<Method, String> {
    let upstream = row.upstream.as_deref().unwrap_or(&row.path);
    if !is_valid_path(&row.path) || !is_valid_path(upstream) {
        return Err("not of the form /package.Service/Method".to_owned());
    }
    let forwarded = matches!(row.kind, Kind::Predict | Kind::Metadata);
    let reads_body = !row.key.is_empty() || row.version.is_some() || row.label.is_some();
    if reads_body && !forwarded {
        return Err("only predict and metadata methods have a route key".to_owned());
    }
    if row.idempotent == Some(true) && (!forwarded || row.streaming != Streaming::Unary) {
        return Err("only unary predict and metadata methods are idempotent".to_owned());
    }
    Ok(Method {
        id,
        upstream: upstream
            .parse()
            .map_err(|error| format!("upstream {upstream}: {error}"))?,
        kind: row.kind,
        protocol: row.protocol,
        idempotent: row
            .idempotent
            .unwrap_or(forwarded && row.streaming == Streaming::Unary),
        streaming: row.streaming,
        task_id: row.task_id,
        lists: row.lists,
        plan: Plan::new(&row.key, row.version.as_deref(), row.label.as_deref())?,
        path: row.path,
    })
}

#[cfg(test)]
#[path = "method_tests.rs"]
mod tests;
