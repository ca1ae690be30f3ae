//! How long an endpoint works on a call: so many at once, the others first come, first served.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::sync::Semaphore;

/// Time that a call of cost 1 takes, in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    Constant(f64),
    Exponential(f64),
    /// Mean, and the standard deviation of the logarithm.
    Lognormal(f64, f64),
}

/// How a wait for a slot and the work in it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The time is up: answer.
    Done,
    /// Slots and queue are taken.
    Full,
    /// The caller gave up before its turn.
    Gone,
}

/// The slots of one endpoint.
pub struct Station {
    law: Law,
    slots: Semaphore,
    queue: usize,
    waiting: Cell<usize>,
    /// Factor and added ms of every call that begins now.
    pace: Cell<(f64, f64)>,
    random: RefCell<fastrand::Rng>,
}

// === impl Law ===

impl Law {
    fn draw(self, random: &mut fastrand::Rng) -> f64 {
        match self {
            Law::Constant(ms) => ms,
            Law::Exponential(ms) => -ms * (1.0 - random.f64()).ln(),
            Law::Lognormal(ms, sigma) => {
                // Box and Muller; the mean of a lognormal law lies sigma^2/2 above its median's logarithm.
                let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
                ms * (sigma * normal - sigma * sigma / 2.0).exp()
            }
        }
    }
}

/// `constant:MS`, `exponential:MS` or `lognormal:MS:SIGMA`.
impl FromStr for Law {
    type Err = String;

    fn from_str(text: &str) -> Result<Law, String> {
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default();
        let numbers: Vec<f64> = words
            .map(|word| word.parse().map_err(|_| format!("{word}: not a number")))
            .collect::<Result<_, _>>()?;
        match (name, numbers.as_slice()) {
            ("constant", &[ms]) => Ok(Law::Constant(ms)),
            ("exponential", &[ms]) => Ok(Law::Exponential(ms)),
            ("lognormal", &[ms, sigma]) => Ok(Law::Lognormal(ms, sigma)),
            _ => Err(format!(
                "{text}: constant:MS, exponential:MS or lognormal:MS:SIGMA is needed"
            )),
        }
    }
}

// === impl Station ===

impl Station {
    /// A station with nobody in it. `queue` counts those that wait, not those that are served.
    #[must_use]
    pub fn new(law: Law, slots: usize, queue: usize, seed: u64) -> Station {
        Station {
            law,
            slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
            queue,
            waiting: Cell::new(0),
            pace: Cell::new((1.0, 0.0)),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Let calls that begin from now on take `factor` times as long and `add_ms` longer.
    pub fn set_pace(&self, factor: f64, add_ms: f64) {
        self.pace.set((factor, add_ms));
    }

    /// Wait for a slot and keep it for the call's time. A call whose caller gives up leaves the queue; in a
    /// slot it stays until its time is up, as a model that computes cannot be stopped.
    pub async fn serve(&self, cost: f64, respond: &mut SendResponse<Bytes>) -> Served {
        let slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) if self.waiting.get() >= self.queue => return Served::Full,
            Err(_) => {
                self.waiting.set(self.waiting.get() + 1);
                let slot = tokio::select! {
                    biased;
                    _ = poll_fn(|cx| respond.poll_reset(cx)) => None,
                    slot = self.slots.acquire() => slot.ok(),
                };
                self.waiting.set(self.waiting.get() - 1);
                match slot {
                    Some(slot) => slot,
                    None => return Served::Gone,
                }
            }
        };
        let (factor, add_ms) = self.pace.get();
        let ms = self.law.draw(&mut self.random.borrow_mut()) * cost * factor + add_ms;
        sleep(Duration::from_secs_f64((ms / 1000.0).max(0.0))).await;
        drop(slot);
        Served::Done
    }
}

/// Sleep without a bias: tokio's timer ticks in ms and rounds up.
async fn sleep(time: Duration) {
    const HALF_A_TICK: Duration = Duration::from_micros(500);
    if time > HALF_A_TICK {
        tokio::time::sleep_until((Instant::now() + time - HALF_A_TICK).into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lognormal_law_keeps_its_mean() {
        let mut random = fastrand::Rng::with_seed(1);
        let law: Law = "lognormal:20:0.5".parse().unwrap();
        let sum: f64 = (0..100_000).map(|_| law.draw(&mut random)).sum();
        assert!((sum / 1e5 - 20.0).abs() < 0.2, "{}", sum / 1e5);
    }

    #[test]
    fn a_law_without_its_numbers_is_refused() {
        assert!("lognormal:20".parse::<Law>().unwrap_err().contains("SIGMA"));
        assert_eq!("constant:5".parse(), Ok(Law::Constant(5.0)));
    }
}
