//! What the end of an attempt means: for the endpoint's weight, and for the call (design.md, error table).

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, HeaderValue};

use super::attempt::{Attempt, Ended};
use super::clock::{Clock, Expired};
use super::cluster::{Cluster, Lease, Settings};
use super::endpoint::Endpoint;
use super::handle::Call;
use super::retry;
use super::upstream::{Exchange, Failure};
use crate::admin::metrics::RetryCause;
use crate::balance::Outcome;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata;
use crate::grpc::status::{self, Code};

/// Attempts of one call that may end without reaching an endpoint.
const MAX_UNREACHED: u32 = 8;

/// What follows an attempt.
pub(super) enum Next {
    /// The caller has been answered; the error is ours, if there was one.
    Done(Option<ErrorKind>),
    /// The caller knows nothing yet: another attempt may follow.
    Undecided(Last),
}

/// What the caller gets when no other attempt follows.
pub(super) enum Last {
    /// The flag says that it was `attempt_timeout_ms` that ran out.
    Error(Error, bool),
    /// An endpoint's own status, as it came.
    Status(Code, HeaderMap),
}

/// The endpoint of another attempt.
pub(super) struct Another {
    pub(super) lease: Lease,
    /// It is the same endpoint again.
    pub(super) is_repeat: bool,
}

// === impl Next ===

impl Next {
    /// Whether the endpoint answered, well or badly: only then does the attempt's time say how fast it is.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Done(None) | Self::Undecided(Last::Status(..)))
    }
}

// === impl Call ===

impl Call {
    /// What the end of an attempt means: the code that is counted for the endpoint, what the balancer learns, and
    /// what happens next.
    pub(super) fn conclude(
        &mut self,
        ended: Ended,
        attempt: &Attempt<'_>,
        clock: &Clock<'_>,
    ) -> (Code, Outcome, Next) {
        match ended {
            Ended::Answered(code, outcome) => (code, outcome, Next::Done(None)),
            // An endpoint that gives up at the time we gave it has run out of time, whatever it calls that.
            Ended::Status(Code::DeadlineExceeded | Code::Cancelled, ..)
                if clock.is_nearly_over(attempt.started) =>
            {
                let expired = clock.first_limit();
                self.conclude(Ended::Failed(Failure::Expired(expired)), attempt, clock)
            }
            Ended::Status(code, headers, outcome) => {
                (code, outcome, Next::Undecided(Last::Status(code, headers)))
            }
            Ended::Failed(failure) => {
                let is_attempt_timeout = matches!(failure, Failure::Expired(Expired::Attempt));
                let (error, outcome) = self.judge(failure, attempt);
                (
                    error.kind.code(),
                    outcome,
                    Next::Undecided(Last::Error(error, is_attempt_timeout)),
                )
            }
            Ended::BrokeOff(failure, mut out) => {
                let is_stuck = matches!(failure, Failure::Expired(_))
                    && attempt.waits(|exchange| exchange.is_unread);
                let (error, outcome) = self.judge(failure, attempt);
                self.worker.shared.stats.errors.add(error.kind);
                if is_stuck {
                    // Trailers would wait behind what the caller does not take, and hold it here for ever.
                    out.send_reset(Reason::CANCEL);
                    return (error.kind.code(), outcome, Next::Done(Some(error.kind)));
                }
                let mut trailers = status::headers(error.kind.code(), &error.message);
                trailers.insert(
                    metadata::ACCESS_ERROR,
                    HeaderValue::from_static(error.kind.name()),
                );
                self.responder.add_trailers(
                    &mut trailers,
                    self.attempts,
                    self.exposed(attempt.endpoint),
                );
                let _ = out.send_trailers(trailers);
                (error.kind.code(), outcome, Next::Done(Some(error.kind)))
            }
        }
    }

    /// The error of a failure, and whether the endpoint is to blame (design.md, error table, last column).
    fn judge(&self, failure: Failure, attempt: &Attempt<'_>) -> (Error, Outcome) {
        match failure {
            Failure::Caller(error) => {
                // A caller's reset at its own deadline usually beats our timer (balancing.md 2.2, cancel trap).
                let late = error.kind == ErrorKind::Cancelled && self.is_callers_deadline_near();
                let outcome = if late {
                    attempt.blame_for_time()
                } else {
                    Outcome::Neutral
                };
                (error, outcome)
            }
            Failure::Endpoint(error) => {
                let outcome = retry::outcome(error.kind);
                let text = &attempt.endpoint.address.text;
                let message = if error.message.contains(&**text) {
                    error.message
                } else {
                    format!("endpoint {text}: {}", error.message).into()
                };
                (Error::new(error.kind, message), outcome)
            }
            Failure::Expired(expired) => {
                let text = &attempt.endpoint.address.text;
                let held = attempt.started.elapsed().as_millis();
                let message = match expired {
                    Expired::Deadline => {
                        format!("deadline exceeded; endpoint {text} had the call for {held} ms")
                    }
                    Expired::Attempt => format!(
                        "endpoint {text} did not answer within attempt_timeout_ms ({held} ms)"
                    ),
                    Expired::Idle => format!(
                        "no message either way for stream_idle_timeout_ms (endpoint {text})"
                    ),
                    Expired::Stalled => {
                        "the caller moved fewer than 16 KiB in body_timeout_ms".to_owned()
                    }
                };
                let outcome = if expired == Expired::Stalled {
                    Outcome::Neutral
                } else {
                    attempt.blame_for_time()
                };
                (Error::new(ErrorKind::DeadlineExceeded, message), outcome)
            }
        }
    }

    /// The endpoint of another attempt, where one is allowed, possible and affordable.
    ///
    /// Where every live endpoint has been tried, a call that the last one never saw goes there once more, on a
    /// new connection.
    pub(super) fn pick_another(
        &self,
        cluster: &Arc<Cluster>,
        settings: &Settings,
        clock: &Clock<'_>,
        tried: &[Arc<Endpoint>],
        last: &Last,
    ) -> Option<Another> {
        // Asked first, so that no budget is spent on an attempt that cannot be made.
        let is_other = cluster.has_untried(tried);
        let endpoint = tried.last()?;
        let was_repeated = tried.len() > 1 && Arc::ptr_eq(endpoint, &tried[tried.len() - 2]);
        let may_repeat = !was_repeated
            && matches!(last, Last::Error(error, _) if error.kind == ErrorKind::RefusedStream);
        if !is_other && !may_repeat {
            return None;
        }
        let cause = self.retry_cause(cluster, settings, clock, last)?;
        let lease = if is_other {
            cluster.pick(tried)?
        } else {
            cluster.lease(endpoint.clone())
        };
        cluster.stats.retries.add(cause);
        Some(Another {
            lease,
            is_repeat: !is_other,
        })
    }

    /// Another share of the call's route, where its own has no endpoint left and another attempt is allowed. The
    /// share that gets the call pays for it: its endpoints are whom retries must not flood.
    pub(super) fn pick_share(
        &self,
        cluster: &Arc<Cluster>,
        settings: &Settings,
        clock: &Clock<'_>,
        last: &Last,
    ) -> Option<Arc<Cluster>> {
        let state = self.worker.shared.state.load();
        let key = &self.record.key;
        let other = state
            .routes
            .another_share(key, self.method.task_id, cluster)?;
        let cause = self.retry_cause(&other, settings, clock, last)?;
        cluster.stats.retries.add(cause);
        Some(other)
    }

    /// Why another attempt may follow in a cluster, if it may; it has then been paid for.
    fn retry_cause(
        &self,
        cluster: &Cluster,
        settings: &Settings,
        clock: &Clock<'_>,
        last: &Last,
    ) -> Option<RetryCause> {
        match last {
            Last::Status(code, _) => {
                let may = settings.retry_codes.contains(*code)
                    && self.may_send_again(cluster, settings, clock);
                may.then_some(RetryCause::UpstreamStatus)
            }
            Last::Error(error, is_attempt_timeout) => {
                let may = self.may_retry(error, *is_attempt_timeout, cluster, settings, clock);
                may.then_some(RetryCause::Error(error.kind))
            }
        }
    }

    fn may_retry(
        &self,
        error: &Error,
        is_attempt_timeout: bool,
        cluster: &Cluster,
        settings: &Settings,
        clock: &Clock<'_>,
    ) -> bool {
        if retry::never_reached(error.kind) {
            // Nobody did any work: it costs no budget, and only the number of endpoints limits it.
            return self.attempts < MAX_UNREACHED
                && self.inbound.is_replayable()
                && clock.has_time_left();
        }
        retry::may_retry(error.kind, is_attempt_timeout, self.is_idempotent(settings))
            && self.may_send_again(cluster, settings, clock)
    }

    /// Whether another attempt of a call that may have been processed is possible and affordable.
    fn may_send_again(&self, cluster: &Cluster, settings: &Settings, clock: &Clock<'_>) -> bool {
        let is_possible = self.is_idempotent(settings)
            && self.attempts < settings.max_attempts
            && self.inbound.is_replayable()
            && clock.has_time_left();
        let is_retried_already = self.headers.contains_key(metadata::PREVIOUS_ATTEMPTS);
        is_possible && cluster.budget.take(is_retried_already)
    }

    /// Whether the caller's own deadline is over, or nearly.
    pub(super) fn is_callers_deadline_near(&self) -> bool {
        self.caller_deadline
            .is_some_and(|limit| retry::is_nearly_over(self.started.elapsed(), limit))
    }

    fn is_idempotent(&self, settings: &Settings) -> bool {
        settings.idempotent && self.method.idempotent
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// What its exchange, if it came so far, says of whom it waits for.
    fn waits(&self, on: impl Fn(&Exchange) -> bool) -> bool {
        self.exchange.as_ref().is_some_and(on)
    }

    /// Running out of time counts against the endpoint if it held the call for at least its median latency and
    /// 10 ms, and it was not the caller that the call waited for: else short deadlines would be an attack.
    fn blame_for_time(&self) -> Outcome {
        if self.waits(|exchange| exchange.waits_for_caller || exchange.is_unread) {
            return Outcome::Neutral;
        }
        let median = self
            .endpoint
            .stats
            .seconds
            .quantile(0.5)
            .map_or(Duration::ZERO, Duration::from_secs_f64);
        retry::time_outcome(self.started.elapsed(), median)
    }
}
