//! What decides in a proxy: which endpoint gets a call, what its end teaches, and how calls are tried again.

use dl_core::balancing::{Code, Nanos};

/// What a call asks of the rule.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Endpoints that this call was sent to before.
    pub tried: &'a [usize],
    /// Time to the call's deadline.
    pub left: Nanos,
    /// Whether the call can be sent elsewhere if it fails.
    pub can_retry: bool,
    pub is_hedge: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub slot: usize,
    /// The call tells whether an endpoint that was out is well again.
    pub is_probe: bool,
}

/// Why no endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoneLive,
    /// All have as much as they can do.
    Overloaded,
}

/// How an attempt ended, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Status(Code),
    /// The connection broke with the call on it.
    Lost,
    /// No connection: the call was never sent.
    Refused,
    /// The caller's time was up.
    TimedOut,
    /// The proxy's own limit of one attempt was reached.
    Expired,
    /// Another attempt of the call was faster.
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub end: End,
    pub started: Nanos,
    pub is_probe: bool,
    /// The response headers had come, so that the call cannot be sent elsewhere.
    pub has_headers: bool,
}

/// What an endpoint says of its load with an answer (ORCA): the share of its slots that is busy, the calls that wait,
/// and the calls and errors a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    pub utilization: f64,
    pub queue: u32,
    pub rps: f64,
    pub eps: f64,
}

/// Waits between tries to connect, in seconds: the first, how much longer each next one is, the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: f64,
    pub factor: f64,
    pub longest: f64,
    /// Share by which a wait is shorter or longer at random.
    pub jitter: f64,
}

/// Tokens of a budget: for each call, for each second, at most.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub ratio: f64,
    pub per_second: f64,
    pub cap: f64,
}

/// How a proxy deals with calls around its rule.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Most attempts of a call, the first included; those that were never sent are not counted.
    pub attempts: u32,
    /// Limit of one attempt, as a share of the callers' deadline; None: no limit.
    pub attempt_limit: Option<f64>,
    /// What limits attempts after the first; None: nothing.
    pub budget: Option<Budget>,
    /// The longest random wait before another attempt, ns.
    pub retry_delay: Nanos,
    /// Connections are kept, and the rule is told when they break; None: one is made when a call needs it.
    pub connects: Option<Backoff>,
    /// How long a call waits where no endpoint is connected, ns.
    pub waits: Nanos,
    /// A call that waits for a connection has all of them tried at once.
    pub hurries: bool,
    /// How often [`Rule::tick`] is called.
    pub tick: Option<Nanos>,
    /// Second attempts beside slow ones.
    pub hedges: Option<Budget>,
    /// Probes for each call (Prequal).
    pub probes: u32,
}

/// A balancing rule of one proxy.
pub trait Rule {
    fn habits(&self) -> Habits;
    /// The endpoints by weight; those that were there before keep their numbers.
    fn update(&mut self, weights: &[u32], now: Nanos);
    /// A connection was made or lost. Not called where connections are not kept.
    fn set_live(&mut self, _slot: usize, _live: bool, _now: Nanos) {}
    fn pick(&mut self, ask: &Ask<'_>, now: Nanos) -> Result<Picked, Refusal>;
    fn finish(&mut self, slot: usize, finished: &Finished, now: Nanos);
    /// Whether a call that ended so is worth another attempt.
    fn retries(&self, end: End) -> bool;
    /// An answer came with a report.
    fn reported(&mut self, _slot: usize, _report: &Report, _now: Nanos) {}
    fn tick(&mut self, _now: Nanos) {}
    /// After what time a call is slow; None: not known, or never.
    fn hedge_delay(&self) -> Option<Nanos> {
        None
    }
    /// Whom to probe now.
    fn probe(&mut self, _now: Nanos) -> Option<usize> {
        None
    }
    fn probed(&mut self, _slot: usize, _in_flight: u32, _latency: Nanos, _now: Nanos) {}
}

// === impl Habits ===

impl Default for Habits {
    /// One attempt, connections made when needed, nothing else.
    fn default() -> Self {
        Self {
            attempts: 1,
            attempt_limit: None,
            budget: None,
            retry_delay: 0,
            connects: None,
            waits: 0,
            hurries: false,
            tick: None,
            hedges: None,
            probes: 0,
        }
    }
}

// === impl End ===

impl End {
    pub fn is_ok(self) -> bool {
        self == Self::Status(Code::Ok)
    }

    /// What the caller gets if nothing follows.
    pub fn code(self) -> Code {
        match self {
            Self::Status(code) => code,
            Self::Lost | Self::Refused => Code::Unavailable,
            Self::TimedOut | Self::Expired => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
        }
    }
}
