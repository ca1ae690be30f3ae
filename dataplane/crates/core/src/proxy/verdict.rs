//! What the end of an attempt means: for the endpoint's weight, and for the call (design.md, error table).

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::answer::{self, Pushback};
use super::attempt::{Attempt, Ended};
use super::call::Call;
use super::clock::Clock;
use super::cluster::{Endpoint, Lease, Need, Share};
use super::failure::{Expired, Failure};
use super::method::Streaming;
use super::recorder::{LEGS, Leg, Microseconds, Spent, Why};
use crate::balance::Outcome;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata;
use crate::headers::Headers;
use crate::stats::RetryCause;

/// Attempts of one call that may end without reaching an endpoint.
const MAX_UNREACHED: u32 = 8;

/// What follows an attempt.
pub enum Next {
    /// The caller has been answered; the error is ours, if there was one.
    Done(Option<ErrorKind>),
    /// The caller knows nothing yet: another attempt may follow.
    Undecided(Last),
}

/// What the caller gets when no other attempt follows.
pub enum Last {
    /// The flag says that it was `attempt_timeout_ms` that ran out.
    Error(Error, bool),
    /// An endpoint's own status, as it came.
    Status(Code, Headers),
}

/// The endpoint of another attempt.
pub struct Another {
    pub lease: Lease,
    /// It is the same endpoint again.
    pub is_repeat: bool,
}

// === impl Next ===

impl Next {
    /// Whether the endpoint answered, well or badly: only then does the attempt's time say how fast it is.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Done(None) | Self::Undecided(Last::Status(..)))
    }
}

// === impl Call ===

impl Call {
    /// Count an attempt that has ended, let the balancer learn from it, and say what follows.
    pub fn settle(
        &mut self,
        attempt: &mut Attempt,
        ended: Ended,
        clock: &Clock<'_>,
    ) -> (Code, Next) {
        let (code, outcome, next) = self.conclude(ended, attempt, clock);
        let stats = &attempt.endpoint.stats;
        let is_answer = next.is_answer();
        let now = Instant::now();
        let took = now - attempt.started;
        if matches!(next, Next::Done(_)) {
            self.answered = Some(now);
        }
        if is_answer {
            stats.answered(code, took);
        } else {
            stats.failed(code);
        }
        self.note(attempt, code, outcome, took);
        if let Some(lease) = attempt.lease.take() {
            lease.finish(outcome, is_answer, attempt.load.as_ref(), now);
        }
        (code, next)
    }

    /// What the end of an attempt means: the code that is counted for the endpoint, what the balancer learns, and
    /// what happens next.
    fn conclude(
        &mut self,
        ended: Ended,
        attempt: &Attempt,
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
            Ended::Failed(Failure::Withdrawn(error)) => {
                let failure = withdrawn(error, attempt, clock);
                self.conclude(Ended::Failed(failure), attempt, clock)
            }
            Ended::BrokeOff(Failure::Withdrawn(error), out) => {
                let failure = withdrawn(error, attempt, clock);
                self.conclude(Ended::BrokeOff(failure, out), attempt, clock)
            }
            Ended::Failed(failure) => {
                let is_attempt_timeout = matches!(failure, Failure::Expired(Expired::Attempt));
                let (error, outcome) = self.judge(failure, attempt);
                self.unreached += u32::from(error.kind.never_reached());
                (
                    error.kind.code(),
                    outcome,
                    Next::Undecided(Last::Error(error, is_attempt_timeout)),
                )
            }
            Ended::BrokeOff(failure, mut out) => {
                let is_stuck = !matches!(failure, Failure::Endpoint(_))
                    && attempt.waits(|exchange| exchange.is_unread);
                let (error, outcome) = self.judge(failure, attempt);
                self.worker.shared.server.stats.errors.add(error.kind);
                let (kind, code) = (error.kind, error.kind.code());
                if is_stuck {
                    // Trailers would wait behind what the caller does not take, and hold it here for ever.
                    out.reset();
                } else {
                    // What it is counted as does not depend on whether the caller still hears of it.
                    let _ = self.responder.finish(&mut out, Some(&error.into()));
                }
                (code, outcome, Next::Done(Some(kind)))
            }
        }
    }

    /// Remember an attempt that is over; of many the first ones and the last.
    pub fn note(&mut self, attempt: &Attempt, code: Code, outcome: Outcome, took: Duration) {
        let ms = Microseconds::from_milliseconds;
        let said = attempt.load.filter(|load| load.compute_ms > 0.0);
        let spent = said.map(|load| Spent {
            queue: ms(load.queue_ms),
            compute: ms(load.compute_ms),
            preprocess: ms(load.preprocess_ms),
            model: ms(load.model_ms),
            postprocess: ms(load.postprocess_ms),
        });
        let leg = Leg {
            endpoint: attempt.endpoint.clone(),
            started: (attempt.started - self.started).into(),
            took: took.into(),
            code,
            outcome,
            why: attempt.why,
            spent: spent.unwrap_or_default(),
        };
        if let Some(trace) = &mut self.trace {
            trace.tried(attempt.number, (attempt.started, attempt.opened), &leg);
        }
        let legs = &mut self.record.legs;
        let free = legs.iter().position(Option::is_none).unwrap_or(LEGS - 1);
        legs[free] = Some(leg);
    }

    /// The error of a failure, and whether the endpoint is to blame (design.md, error table, last column).
    fn judge(&self, failure: Failure, attempt: &Attempt) -> (Error, Outcome) {
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
            Failure::Endpoint(error) | Failure::Withdrawn(error) => {
                let outcome = error.kind.outcome();
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
    /// new connection; another one waits where an endpoint is being started.
    ///
    /// # Errors
    /// The caller went while the call waited, as the last endpoint had asked.
    pub async fn pick_another(
        &mut self,
        share: &Share,
        tried: &[Arc<Endpoint>],
        last: &Last,
        clock: &mut Clock<'_>,
    ) -> Result<Option<Another>, Error> {
        let cluster = &share.cluster;
        // Asked first, so that no budget is spent on an attempt that cannot be made.
        let is_other = cluster.has_untried(tried);
        let Some(endpoint) = tried.last() else {
            return Ok(None);
        };
        let was_repeated = tried.len() > 1 && Arc::ptr_eq(endpoint, &tried[tried.len() - 2]);
        let may_repeat = !was_repeated
            && matches!(last, Last::Error(error, _) if error.kind == ErrorKind::RefusedStream);
        // What a process that lives did to the call is not mended by another process.
        let may_wait = !share.settings.restart_wait.is_zero()
            && matches!(last, Last::Error(error, _)
                if matches!(error.kind, ErrorKind::ConnectionLost | ErrorKind::ConnectFailed));
        if !is_other && !may_repeat && !may_wait {
            return Ok(None);
        }
        let Some(cause) = self.retry_cause(share, share, last) else {
            return Ok(None);
        };
        self.wait_as_told(last, clock).await?;
        let is_other = is_other || {
            // In a box, so that the many calls that never wait have no room for it.
            !may_repeat && Box::pin(self.wait_untried(share, tried, clock)).await?
        };
        if !is_other && !may_repeat {
            return Ok(None);
        }
        let lease = if is_other {
            let picked = cluster.pick(tried, &self.need(share)).ok();
            picked.filter(|lease| self.has_time_at(&lease.endpoint, share))
        } else {
            cluster.lease(endpoint.clone(), &self.need(share))
        };
        let Some(lease) = lease else {
            return Ok(None);
        };
        cluster.stats.retries.add(cause);
        self.why = Why::Retry(cause);
        Ok(Some(Another {
            lease,
            is_repeat: !is_other,
        }))
    }

    /// Wait for an endpoint that is being started in place of one that died. Returns whether there is one.
    ///
    /// # Errors
    /// The caller went.
    async fn wait_untried(
        &mut self,
        share: &Share,
        tried: &[Arc<Endpoint>],
        clock: &mut Clock<'_>,
    ) -> Result<bool, Error> {
        clock.set_attempt(None);
        let found = timeout(
            share.settings.restart_wait,
            share.cluster.wait_untried(tried),
        );
        let found = std::pin::pin!(found);
        let wait = |cx: &mut Context<'_>| self.inbound.wait(cx);
        match clock.limit(found, &mut self.responder, wait).await {
            Err(Failure::Caller(error)) => Err(error),
            found => Ok(matches!(found, Ok(Ok(true)))),
        }
    }

    /// Wait as long as the endpoint that answered asked for before another attempt.
    ///
    /// # Errors
    /// The caller went. Where time runs out first, another attempt finds that it has none.
    pub async fn wait_as_told(&mut self, last: &Last, clock: &mut Clock<'_>) -> Result<(), Error> {
        if let Last::Status(_, headers) = last
            && let Pushback::After(pause) = answer::pushback(headers)
            && let Err(Failure::Caller(error)) = clock
                .pause(pause, &mut self.responder, |cx| self.inbound.wait(cx))
                .await
        {
            return Err(error);
        }
        Ok(())
    }

    /// Another share of the call's route, where its own has no endpoint left and another attempt is allowed. The
    /// share that gets the call pays for it, and its settings say whether it may come: its endpoints are whom retries
    /// must not flood.
    pub fn pick_share(&mut self, share: &Share, last: &Last) -> Option<Share> {
        let other = self.split.as_ref()?.another(&share.cluster)?;
        let other = Share::new(other.clone());
        let cause = self.retry_cause(share, &other, last)?;
        share.cluster.stats.retries.add(cause);
        self.why = Why::Retry(cause);
        Some(other)
    }

    /// Why another attempt may follow one that ended `from` a share so, in the share `to`; it has then been paid for.
    fn retry_cause(&mut self, from: &Share, to: &Share, last: &Last) -> Option<RetryCause> {
        let (may, cause) = match last {
            Last::Status(code, headers) => {
                let cause = if from.settings.retry_codes.contains(*code) {
                    RetryCause::UpstreamStatus
                } else if answer::is_full(*code, headers) && !self.has_met_full {
                    RetryCause::Full
                } else if self.lacking.is_none() && self.may_be_loading(*code, to) {
                    RetryCause::NotLoaded
                } else {
                    return None;
                };
                let may = self.allows(answer::pushback(headers), to) && self.may_send_again(to);
                self.has_met_full |= may && cause == RetryCause::Full;
                if may && cause == RetryCause::NotLoaded {
                    self.lacking.clone_from(&self.record.endpoint);
                }
                (may, cause)
            }
            Last::Error(error, is_attempt_timeout) => {
                let may = self.may_retry(error.kind, *is_attempt_timeout, to);
                (may, RetryCause::Error(error.kind))
            }
        };
        may.then_some(cause)
    }

    fn may_retry(&self, kind: ErrorKind, is_attempt_timeout: bool, to: &Share) -> bool {
        if kind.never_reached() {
            // Nobody did any work: it costs no budget, and only the number of endpoints limits it.
            return self.attempts < MAX_UNREACHED
                && self.inbound.is_replayable()
                && self.has_time_in(to);
        }
        kind.may_retry(is_attempt_timeout, self.is_idempotent(to)) && self.may_send_again(to)
    }

    /// Whether another attempt of a call that may have been processed is possible and affordable.
    fn may_send_again(&self, to: &Share) -> bool {
        let is_possible = self.is_idempotent(to)
            && self.worked() < to.settings.max_attempts
            && self.inbound.is_replayable()
            && self.has_time_in(to);
        let is_retried_already = metadata::previous_attempts(&self.headers) > 0;
        is_possible && to.cluster.budget.take(is_retried_already)
    }

    /// Whether an endpoint's wish leaves another attempt possible.
    fn allows(&self, pushback: Pushback, to: &Share) -> bool {
        match pushback {
            Pushback::Unsaid => true,
            Pushback::Never => false,
            Pushback::After(pause) => self.has_time_for(pause, to),
        }
    }

    /// What the balancer has to know of the call in a share.
    pub fn need(&self, share: &Share) -> Need {
        let deadline = self.deadline_in(share);
        let can_probe = self.is_idempotent(share)
            && self.worked() + 1 < share.settings.max_attempts
            && self.inbound.is_replayable();
        Need {
            deadline,
            can_probe,
            is_low: self.is_low,
            is_stream: self.method.streaming == Streaming::Bidi,
            key: self.affinity,
            ..Need::default()
        }
    }

    fn has_time_in(&self, share: &Share) -> bool {
        self.has_time_for(Duration::ZERO, share)
    }

    /// Whether an endpoint is likely to answer in the time that is left: its median says so.
    fn has_time_at(&self, endpoint: &Endpoint, share: &Share) -> bool {
        let median = endpoint.stats.seconds.quantile(0.5);
        self.has_time_for(
            median.map_or(Duration::ZERO, Duration::from_secs_f64),
            share,
        )
    }

    fn has_time_for(&self, time: Duration, share: &Share) -> bool {
        let deadline = self.deadline_in(share);
        deadline.is_none_or(|at| at.saturating_duration_since(Instant::now()) > time)
    }

    pub fn is_idempotent(&self, share: &Share) -> bool {
        share.settings.idempotent && self.method.idempotent
    }
}

/// What it means that the endpoint withdrew from the call: its time was over, or it failed.
fn withdrawn(error: Error, attempt: &Attempt, clock: &Clock<'_>) -> Failure {
    if clock.is_nearly_over(attempt.started) {
        Failure::Expired(clock.first_limit())
    } else {
        Failure::Endpoint(error)
    }
}
