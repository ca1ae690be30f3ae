use std::time::{Duration, Instant};
use crate::balance::Outcome;
use crate::error::ErrorKind;
use crate::grpc::status::Code;
#[derive(Clone, Copy, Default)]
pub struct CodeSet(u32);
impl CodeSet {
    pub fn from_names(names: &[String]) -> Result<Self, String> {
        let mut set = 0;
        for n in names { set |= 1 << (Code::from_name(n).ok_or_else(|| format!("unknown code {n}"))? as u32); }
        Ok(Self(set))
    }
    pub fn contains(self, code: Code) -> bool { self.0 >> (code as u32) & 1 == 1 }
}
pub struct RetryBudget {}
impl RetryBudget {
    pub fn new(_r: f64, _p: f64, _c: f64, _s: Instant) -> Self { Self {} }
    pub fn configure(&self, _r: f64, _p: f64, _c: f64) {}
    pub fn request(&self) {}
    pub fn take(&self, _twice: bool) -> bool { true }
    pub fn tokens(&self) -> f64 { 0.0 }
}
pub fn never_reached(kind: ErrorKind) -> bool { matches!(kind, ErrorKind::ConnectFailed | ErrorKind::RefusedStream) }
pub fn may_retry(kind: ErrorKind, is_attempt_timeout: bool, idempotent: bool) -> bool {
    match kind { ErrorKind::ConnectFailed | ErrorKind::RefusedStream => true, ErrorKind::ConnectionLost | ErrorKind::StreamReset => idempotent, ErrorKind::DeadlineExceeded => idempotent && is_attempt_timeout, _ => false }
}
pub fn outcome(kind: ErrorKind) -> Outcome {
    match kind { ErrorKind::ConnectFailed | ErrorKind::ConnectionLost | ErrorKind::StreamReset | ErrorKind::BadUpstreamResponse => Outcome::Failure, _ => Outcome::Neutral }
}
#[allow(dead_code)] const _D: Duration = Duration::ZERO;
