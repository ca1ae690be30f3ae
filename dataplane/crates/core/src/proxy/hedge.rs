//! A second attempt beside one that takes longer than most calls do: whichever endpoint answers first is the call's, and
//! the other attempt is cancelled. Dean and Barroso, The Tail at Scale (2013).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::answer;
use super::attempt::{Attempt, Ended};
use super::call::Call;
use super::clock::Clock;
use super::cluster::{Endpoint, Need, Share};
use super::exchange::{Answering, Exchange};
use super::failure::{Expired, Failure, cancelled};
use super::method::Streaming;
use super::recorder::Why;
use crate::balance::Outcome;
use crate::code::Code;
use crate::error::Error;
use crate::headers::Headers;
use crate::net::stream::{Awaited, Body};
use crate::stats::HedgeResult;

/// An answer that begins, or an attempt that is over without one.
type Begun = Result<(Headers, Body), Ended>;

type Opening = Pin<Box<dyn Future<Output = Result<(Exchange, Awaited), Error>>>>;

/// The second attempt of a race.
struct Second {
    attempt: Attempt,
    stage: Stage,
}

enum Stage {
    Opening(Opening),
    Open(Awaited),
}

/// Whose news ended a wait.
enum News {
    First(Result<Answering, Failure>),
    Second(Result<Answering, Failure>),
    /// The caller's, or the clock's: both attempts are over.
    Both(Failure),
}

// === impl Call ===

impl Call {
    /// How long to wait for an answer before a second endpoint is asked; `None` where none may be.
    pub fn hedge_delay(&self, share: &Share) -> Option<Duration> {
        let may = share.settings.hedge
            && self.method.streaming == Streaming::Unary
            && self.is_idempotent(share)
            && self.worked() < share.settings.max_attempts;
        if may {
            share.cluster.hedge_delay()
        } else {
            None
        }
    }

    /// Wait for an attempt's answer; from `delay` on together with a second attempt at another endpoint. Afterwards
    /// `attempt` is the one whose answer, or failure, this returns; an endpoint that lost or failed is in `tried`.
    pub async fn race(
        &mut self,
        attempt: &mut Attempt,
        mut response: Awaited,
        delay: Duration,
        (share, tried): (&Share, &mut Vec<Arc<Endpoint>>),
        clock: &mut Clock<'_>,
    ) -> Begun {
        if let Some(answer) = self.alone(attempt, &mut response, delay, clock).await {
            return self.begun(attempt, answer, &share.settings);
        }
        let beside = self.beside(attempt, &mut response, (share, tried), clock);
        let Some((is_first, begun, mut second)) = beside.await? else {
            return self.rest(attempt, response, share, clock).await;
        };
        let hedges = &share.cluster.stats.hedges;
        if is_answer(&begun, share) {
            if !is_first {
                std::mem::swap(attempt, &mut second.attempt);
            }
            hedges.add(if is_first {
                HedgeResult::Lost
            } else {
                HedgeResult::Won
            });
            self.name_endpoint(&attempt.endpoint);
            self.lose(&mut second.attempt, delay);
            tried.push(second.attempt.endpoint);
            return begun;
        }
        // One has failed: the other goes on alone.
        let stage = if is_first {
            std::mem::swap(attempt, &mut second.attempt);
            clock.set_attempt(attempt.end(&share.settings));
            second.stage
        } else {
            Stage::Open(response)
        };
        if let Err(ended) = begun {
            self.settle(&mut second.attempt, ended, clock);
        }
        tried.push(second.attempt.endpoint);
        self.name_endpoint(&attempt.endpoint);
        let begun = match self.opened(attempt, stage, clock).await {
            Ok(response) => self.rest(attempt, response, share, clock).await,
            Err(failure) => Err(Ended::Failed(failure)),
        };
        hedges.add(match (is_answer(&begun, share), is_first) {
            (false, _) => HedgeResult::Failed,
            (true, true) => HedgeResult::Won,
            (true, false) => HedgeResult::Lost,
        });
        begun
    }

    /// Begin a second attempt, and wait for the first answer or failure of the two: whether it is the first attempt's, what
    /// it is, and the second attempt; none where there may be no second. One that never reached its endpoint makes room
    /// for another.
    async fn beside(
        &mut self,
        attempt: &mut Attempt,
        response: &mut Awaited,
        (share, tried): (&Share, &mut Vec<Arc<Endpoint>>),
        clock: &mut Clock<'_>,
    ) -> Result<Option<(bool, Begun, Second)>, Ended> {
        let hedges = &share.cluster.stats.hedges;
        loop {
            let Some(mut second) = self.second(attempt, share, tried, clock) else {
                return Ok(None);
            };
            let news = self.news(attempt, response, &mut second, clock).await;
            let (is_first, answer) = match news {
                News::First(answer) => (true, answer),
                News::Second(answer) => (false, answer),
                News::Both(Failure::Expired(Expired::Attempt)) => {
                    (true, Err(Failure::Expired(Expired::Attempt)))
                }
                News::Both(failure) => {
                    hedges.add(HedgeResult::Failed);
                    let other = Ended::Failed(same(&failure));
                    self.settle(&mut second.attempt, other, clock);
                    return Err(Ended::Failed(failure));
                }
            };
            let of = if is_first {
                &mut *attempt
            } else {
                &mut second.attempt
            };
            let begun = self.begun(of, answer, &share.settings);
            match begun {
                Err(Ended::Failed(Failure::Endpoint(error))) if error.kind.never_reached() => {
                    let Second {
                        attempt: mut other,
                        stage,
                    } = second;
                    let mut opened = Ok(());
                    if is_first {
                        // The second takes its place.
                        std::mem::swap(attempt, &mut other);
                        clock.set_attempt(attempt.end(&share.settings));
                        let next = self.opened(attempt, stage, clock).await;
                        opened = next.map(|next| *response = next);
                    }
                    hedges.add(if is_first && opened.is_ok() {
                        HedgeResult::Won
                    } else {
                        HedgeResult::Failed
                    });
                    let ended = Ended::Failed(Failure::Endpoint(error));
                    self.settle(&mut other, ended, clock);
                    tried.push(other.endpoint);
                    self.name_endpoint(&attempt.endpoint);
                    opened.map_err(Ended::Failed)?;
                }
                begun => return Ok(Some((is_first, begun, second))),
            }
        }
    }

    /// The answer of the first attempt, if it comes, or fails, within the delay.
    async fn alone(
        &mut self,
        attempt: &mut Attempt,
        response: &mut Awaited,
        delay: Duration,
        clock: &mut Clock<'_>,
    ) -> Option<Result<Answering, Failure>> {
        let mut timer = std::pin::pin!(sleep_until(attempt.started + delay));
        poll_fn(|cx| {
            if let Poll::Ready(news) = self.poll(cx, attempt, response, None, clock) {
                return Poll::Ready(match news {
                    News::First(answer) | News::Second(answer) => Some(answer),
                    News::Both(failure) => Some(Err(failure)),
                });
            }
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// What happens first to either attempt.
    async fn news(
        &mut self,
        attempt: &mut Attempt,
        response: &mut Awaited,
        second: &mut Second,
        clock: &mut Clock<'_>,
    ) -> News {
        poll_fn(|cx| self.poll(cx, attempt, response, Some(&mut *second), clock)).await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt,
        response: &mut Awaited,
        second: Option<&mut Second>,
        clock: &mut Clock<'_>,
    ) -> Poll<News> {
        let mut waits_for_caller = false;
        if let Some(exchange) = &mut attempt.exchange {
            let answer = exchange.poll_response(cx, response, &mut self.inbound, clock);
            if let Poll::Ready(answer) = answer {
                return Poll::Ready(News::First(answer));
            }
            waits_for_caller = exchange.waits_for_caller;
        }
        if let Some(second) = second
            && let Poll::Ready(answer) = self.poll_second(cx, second, clock)
        {
            return Poll::Ready(News::Second(answer));
        }
        if self.responder.poll_reset(cx).is_ready() {
            return Poll::Ready(News::Both(Failure::Caller(cancelled())));
        }
        let expired = clock.poll(cx, waits_for_caller);
        expired.map(|expired| News::Both(Failure::Expired(expired)))
    }

    fn poll_second(
        &mut self,
        cx: &mut Context<'_>,
        second: &mut Second,
        clock: &mut Clock<'_>,
    ) -> Poll<Result<Answering, Failure>> {
        if let Stage::Opening(opening) = &mut second.stage {
            match std::task::ready!(opening.as_mut().poll(cx)) {
                Ok((exchange, response)) => {
                    second.attempt.opened = self.now_if_traced();
                    second.attempt.exchange = Some(exchange);
                    second.stage = Stage::Open(response);
                }
                Err(error) => return Poll::Ready(Err(Failure::Endpoint(error))),
            }
        }
        match (&mut second.stage, &mut second.attempt.exchange) {
            (Stage::Open(response), Some(exchange)) => {
                exchange.poll_response(cx, response, &mut self.inbound, clock)
            }
            _ => Poll::Pending,
        }
    }

    /// The second attempt, where another endpoint and the budget allow one.
    fn second(
        &mut self,
        first: &Attempt,
        share: &Share,
        tried: &[Arc<Endpoint>],
        clock: &mut Clock<'_>,
    ) -> Option<Second> {
        let cluster = &share.cluster;
        let tried: Vec<_> = tried.iter().chain([&first.endpoint]).cloned().collect();
        if !self.inbound.is_whole() || !cluster.has_untried(&tried) {
            return None;
        }
        if !cluster.hedge_budget.take(false) {
            cluster.stats.hedges.add(HedgeResult::NoBudget);
            return None;
        }
        let need = Need {
            is_hedge: true,
            can_probe: false,
            ..self.need(share)
        };
        let mut attempt = Attempt::new(cluster.pick(&tried, &need).ok()?, Why::Hedge);
        let upstream = self.worker.upstream(&attempt.endpoint.address)?;
        self.begin_attempt(&attempt.endpoint);
        attempt.number = self.attempts;
        // The endpoint is told the time that this attempt has; the clock goes on with the first one's.
        clock.set_attempt(attempt.end(&share.settings));
        let before = (self.attempts - 1, self.trace.as_deref());
        let head = attempt.head(self.method, &self.headers, before, clock.attempt_end());
        clock.set_attempt(first.end(&share.settings));
        let opening = Box::pin(async move { Exchange::open(&upstream, || head).await });
        let stage = Stage::Opening(opening);
        Some(Second { attempt, stage })
    }

    /// End the attempt that lost. That it was slow counts against its endpoint only where it was slow indeed; else a
    /// hedge would punish every second-fastest.
    fn lose(&mut self, attempt: &mut Attempt, delay: Duration) {
        let now = Instant::now();
        let took = now - attempt.started;
        let is_late = took > 2 * delay;
        let outcome = if is_late {
            Outcome::Soft
        } else {
            Outcome::Neutral
        };
        attempt.endpoint.stats.failed(Code::Cancelled);
        self.note(attempt, Code::Cancelled, outcome, took);
        if let Some(lease) = attempt.lease.take() {
            lease.finish(outcome, false, None, now);
        }
        // Dropped, its stream is reset: CANCEL.
        attempt.exchange = None;
    }

    /// The stream of an attempt that is the only one now.
    async fn opened(
        &mut self,
        attempt: &mut Attempt,
        stage: Stage,
        clock: &mut Clock<'_>,
    ) -> Result<Awaited, Failure> {
        match stage {
            Stage::Open(response) => Ok(response),
            Stage::Opening(mut opening) => {
                let opened = clock
                    .limit(Pin::new(&mut opening), &mut self.responder, |cx| {
                        self.inbound.wait(cx)
                    })
                    .await?;
                let (exchange, response) = opened.map_err(Failure::Endpoint)?;
                attempt.opened = self.now_if_traced();
                attempt.exchange = Some(exchange);
                Ok(response)
            }
        }
    }

    /// The answer of an attempt that is the only one now.
    async fn rest(
        &mut self,
        attempt: &mut Attempt,
        mut response: Awaited,
        share: &Share,
        clock: &mut Clock<'_>,
    ) -> Begun {
        let news = poll_fn(|cx| self.poll(cx, attempt, &mut response, None, clock)).await;
        let answer = match news {
            News::First(answer) | News::Second(answer) => answer,
            News::Both(failure) => Err(failure),
        };
        self.begun(attempt, answer, &share.settings)
    }
}

/// Whether it ends the race: an answer that begins, or a status that no other attempt would better.
fn is_answer(begun: &Begun, share: &Share) -> bool {
    match begun {
        Ok(_) => true,
        Err(Ended::Status(code, headers, _)) => {
            !share.settings.retry_codes.contains(*code) && !answer::is_full(*code, headers)
        }
        Err(_) => false,
    }
}

/// The same failure for the other attempt.
fn same(failure: &Failure) -> Failure {
    match failure {
        Failure::Caller(error) => Failure::Caller(error.clone()),
        Failure::Endpoint(error) => Failure::Endpoint(error.clone()),
        Failure::Withdrawn(error) => Failure::Withdrawn(error.clone()),
        Failure::Expired(expired) => Failure::Expired(*expired),
    }
}
