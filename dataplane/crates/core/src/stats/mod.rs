//! What the request path counts. Everybody may count here; only `admin` shows it.

mod counters;
mod histogram;
pub mod history;
mod totals;

pub use counters::{ClosedReason, CodeCounters, HedgeResult, Label, RefusedReason, RetryCause};
pub use histogram::{BOUNDS, Histogram, Snapshot};
pub use totals::{CallStats, ClusterStats, EndpointStats, ProcessStats, StageStats};
