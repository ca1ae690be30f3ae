//! How much may be asked for: requests and bytes by time, and calls in flight, of a model, of a caller, or of a caller at
//! a model. Each is an atomic number; nothing is locked or allocated for a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Nanos};
pub use super::shares::Of;
use super::shares::{Demand, Share};
use crate::call::limit::{InFlight, Permit};
use crate::config::CallLimits;
use crate::error::{Error, ErrorKind};

const SECOND: f64 = 1e9;
/// Limits that one call can be under: its caller's, its model's, and those of its caller at the model.
const MOST: usize = 3;

/// Who is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    pub caller: Option<Box<str>>,
    pub model: Option<Box<str>>,
}

/// The limits of one model, caller, or both, as configured.
#[derive(Debug)]
pub struct Limit {
    pub whose: Whose,
    pub config: CallLimits,
    used: Arc<Used>,
}

/// What has been taken. It outlives a change of the limits.
#[derive(Debug)]
struct Used {
    began: Instant,
    requests: Bucket,
    bytes: Bucket,
    in_flight: InFlight,
    refused: [AtomicU64; 3],
    /// Which part of each limit this access service allows.
    shares: [Share; 3],
    demand: Demand,
}

/// How fast tokens come back, ns for each, and how long an empty bucket takes to be full.
#[derive(Clone, Copy, Debug)]
struct Rate {
    token: f64,
    room: Nanos,
}

/// What one call has taken of the limits that it is under; its places in flight are given back when it is dropped.
#[derive(Debug, Default)]
pub struct Charges {
    limits: [Option<(Arc<Limit>, Option<Permit>)>; MOST],
    /// Messages that have begun, and their bytes.
    messages: u32,
    bytes: usize,
}

// === impl Rate ===

impl Rate {
    fn new(per_s: f64, burst: f64) -> Self {
        let token = SECOND / per_s;
        Self {
            token,
            room: (burst * token).ceil() as Nanos,
        }
    }

    fn cost(self, tokens: usize) -> Nanos {
        (tokens as f64 * self.token).ceil() as Nanos
    }
}

// === impl Limit ===

impl Limit {
    /// What has been taken is taken over from `old`, the limits of the same name.
    pub fn new(whose: Whose, config: &CallLimits, old: Option<&Self>, now: Instant) -> Self {
        let new = Self {
            whose,
            config: config.clone(),
            used: old.map_or_else(|| Arc::new(Used::new(now)), |old| old.used.clone()),
        };
        if let Some(old) = old {
            let at = new.used.nanos(now);
            for (of, bucket) in new.buckets() {
                if let (Some(before), Some(after)) = (old.rate(of), new.rate(of)) {
                    bucket.rescale(after.token / before.token, at);
                }
            }
        }
        new
    }

    fn buckets(&self) -> [(Of, &Bucket); 2] {
        let used = &self.used;
        [(Of::Requests, &used.requests), (Of::Bytes, &used.bytes)]
    }

    /// The part of a limit that this access service allows.
    pub fn part(&self, of: Of) -> f64 {
        let shared = self.used.shares[of as usize].get();
        shared.unwrap_or_else(|| 1.0 / f64::from(self.config.instances.max(1)))
    }

    /// Allow this part of a limit from now on, none: as configured. Nobody gets a new burst by it.
    pub fn share(&self, of: Of, part: Option<f64>, now: Instant) {
        let before = self.rate(of);
        if !self.used.shares[of as usize].set(part) {
            return;
        }
        let bucket = self.buckets().into_iter().find(|it| it.0 == of);
        if let (Some((_, bucket)), Some(before), Some(after)) = (bucket, before, self.rate(of)) {
            let ratio = after.token / before.token;
            bucket.resize(ratio, before.room, after.room, self.used.nanos(now));
        }
    }

    /// Which part of a limit was wanted in the time since the last question; 1 where it was the whole or more.
    pub fn wanted(&self, of: Of, over_s: f64) -> f64 {
        let (config, demand) = (&self.config, &self.used.demand);
        let (wanted, whole) = match of {
            Of::Requests => (demand.requests(over_s), config.requests_per_s),
            Of::Bytes => (demand.bytes(over_s), config.bytes_per_s.map(|it| it as f64)),
            Of::InFlight => {
                let refused = self.used.refused[of as usize].load(Relaxed);
                let now = demand.in_flight(self.in_flight(), refused);
                (now, config.in_flight.map(|it| it as f64))
            }
        };
        whole.map_or(0.0, |whole| demand.smooth(of, wanted / whole))
    }

    /// Whether there is such a limit.
    pub fn has(&self, of: Of) -> bool {
        match of {
            Of::Requests => self.config.requests_per_s.is_some(),
            Of::InFlight => self.config.in_flight.is_some(),
            Of::Bytes => self.config.bytes_per_s.is_some(),
        }
    }

    /// How fast tokens of a limit come back here, and at least one of them.
    fn rate(&self, of: Of) -> Option<Rate> {
        let part = self.part(of);
        match of {
            Of::Requests => self.config.requests_per_s.map(|per_s| {
                let burst = self.config.burst as f64 * part;
                Rate::new(per_s * part, burst.max(1.0))
            }),
            Of::Bytes => self.config.bytes_per_s.map(|per_s| {
                let part = per_s as f64 * part;
                Rate::new(part, part)
            }),
            Of::InFlight => None,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.used.in_flight.count()
    }

    /// The limits that are set, with how many calls each has refused.
    pub fn refused(&self) -> impl Iterator<Item = (Of, u64)> {
        Of::ALL
            .into_iter()
            .filter(|of| self.has(*of))
            .map(|of| (of, self.used.refused[of as usize].load(Relaxed)))
    }

    fn enter(&self) -> Result<Option<Permit>, Error> {
        let Some(limit) = self.config.in_flight else {
            return Ok(None);
        };
        // Rounded up, but not for what a float is beside a whole number.
        let part = (limit as f64 * self.part(Of::InFlight) - 1e-6).ceil();
        match self.used.in_flight.acquire((part as usize).max(1)) {
            Some(permit) => Ok(Some(permit)),
            None => Err(self.refuse(Of::InFlight, None)),
        }
    }

    fn take(&self, requests: usize, bytes: usize) -> Result<(), Error> {
        if !self.has(Of::Requests) && !self.has(Of::Bytes) {
            return Ok(());
        }
        self.used.demand.add(requests, bytes);
        let now = self.used.nanos(Instant::now());
        let refused = |of| move |wait| self.refuse(of, Some(Duration::from_nanos(wait)));
        let rate = |of, count: usize| (count > 0).then(|| self.rate(of)).flatten();
        if let Some(rate) = rate(Of::Requests, requests) {
            let taken = self.used.requests.take(rate.cost(requests), rate.room, now);
            taken.map_err(refused(Of::Requests))?;
        }
        if let Some(rate) = rate(Of::Bytes, bytes) {
            let taken = self.used.bytes.take_whole(rate.cost(bytes), rate.room, now);
            taken.map_err(refused(Of::Bytes))?;
        }
        Ok(())
    }

    fn value(&self, of: Of) -> Option<String> {
        let config = &self.config;
        match of {
            Of::Requests => config
                .requests_per_s
                .map(|it| format!("{it} (burst {})", config.burst)),
            Of::InFlight => config.in_flight.map(|it| it.to_string()),
            Of::Bytes => config.bytes_per_s.map(|it| it.to_string()),
        }
    }

    #[cold]
    fn refuse(&self, of: Of, wait: Option<Duration>) -> Error {
        self.used.refused[of as usize].fetch_add(1, Relaxed);
        let value = self.value(of).unwrap_or_default();
        let shared = self.used.shares[of as usize].get();
        let part = match (shared, self.config.instances) {
            (Some(part), _) => {
                let percent = part * 100.0;
                format!(", of which this access service allows {percent:.1} % now")
            }
            (None, 0 | 1) => String::new(),
            (None, parts) => format!(", of which this access service allows 1/{parts}"),
        };
        let when = match wait {
            Some(wait) => format!("in {} ms", wait.as_millis().max(1)),
            None => "when one of them has ended".to_owned(),
        };
        let text = format!(
            "{} may have {} {value}{part}; try again {when}, or have the limit raised",
            self.whose,
            of.name()
        );
        let mut error = Error::new(ErrorKind::Limited, text);
        error.retry_after = wait;
        error
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.caller, &self.model) {
            (Some(caller), Some(model)) => write!(f, "caller {caller} at model {model}"),
            (Some(caller), None) => write!(f, "caller {caller}"),
            (None, model) => write!(f, "model {}", model.as_deref().unwrap_or_default()),
        }
    }
}

// === impl Used ===

impl Used {
    fn new(began: Instant) -> Self {
        Self {
            began,
            requests: Bucket::default(),
            bytes: Bucket::default(),
            in_flight: InFlight::default(),
            refused: Default::default(),
            shares: Default::default(),
            demand: Demand::default(),
        }
    }

    fn nanos(&self, at: Instant) -> Nanos {
        let since = at.saturating_duration_since(self.began);
        u64::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
    }
}

// === impl Charges ===

impl Charges {
    /// Put the call under a limit: a place in flight, a token for it, and for what has come of it so far.
    ///
    /// # Errors
    /// `limited`.
    pub fn add(&mut self, limit: &Arc<Limit>) -> Result<(), Error> {
        let permit = limit.enter()?;
        limit.take(self.messages.max(1) as usize, self.bytes)?;
        if let Some(place) = self.limits.iter_mut().find(|place| place.is_none()) {
            *place = Some((limit.clone(), permit));
        }
        Ok(())
    }

    /// A message of so many bytes begins. The first is the call; in a stream each further one is a request, too.
    ///
    /// # Errors
    /// `limited`.
    pub fn message(&mut self, bytes: usize) -> Result<(), Error> {
        let requests = usize::from(self.messages > 0);
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        for (limit, _) in self.limits.iter().flatten() {
            limit.take(requests, bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
