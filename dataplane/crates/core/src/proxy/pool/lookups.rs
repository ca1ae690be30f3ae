//! The system looks host names up in threads, one for each question, and nothing ends such a thread early. So questions
//! wait for a permit; names that were answered last time, that were not, and new ones each wait among themselves.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Threads of one worker for names that were never asked for.
const NEW: usize = 32;
/// Threads of one worker for names that had an answer last time.
const SOUND: usize = 16;
/// Threads of one worker for names that had none.
const SUSPECT: usize = 4;

/// The questions of one worker.
pub struct Lookups {
    new: Arc<Semaphore>,
    sound: Arc<Semaphore>,
    suspect: Arc<Semaphore>,
}

/// The host of one address: what became of the last question for its name.
#[derive(Default)]
pub struct Host {
    past: Cell<Past>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Past {
    #[default]
    New,
    Sound,
    Suspect,
}

// === impl Lookups ===

impl Default for Lookups {
    fn default() -> Self {
        Self {
            new: Arc::new(Semaphore::new(NEW)),
            sound: Arc::new(Semaphore::new(SOUND)),
            suspect: Arc::new(Semaphore::new(SUSPECT)),
        }
    }
}

impl Lookups {
    /// The addresses of a `host:port`, within `limit` once the question is asked.
    ///
    /// # Errors
    /// The system's, or `TimedOut`.
    pub async fn addresses(
        &self,
        host: &Host,
        text: &str,
        limit: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = text.parse() {
            return Ok(vec![address]);
        }
        let ask = |text: &str| Ok(text.to_socket_addrs()?.collect());
        self.ask(host, text, limit, ask).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        host: &Host,
        text: &str,
        limit: Duration,
        ask: impl FnOnce(&str) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let permits = match host.past.get() {
            Past::New => &self.new,
            Past::Sound => &self.sound,
            Past::Suspect => &self.suspect,
        };
        let permit = permits.clone().acquire_owned().await;
        let name = text.to_owned();
        // The permit is the thread's: who gave up waiting has not ended it.
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            ask(&name)
        });
        host.past.set(Past::Suspect);
        let found = match timeout(limit, asked).await {
            Ok(answered) => answered.map_err(io::Error::other)??,
            Err(_) => {
                let text = format!("the name was not looked up within {} ms", limit.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        };
        host.past.set(Past::Sound);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// Waits for the limit only where it is to run out.
    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn names_without_an_answer_hold_few_threads_and_hold_up_no_other_name() {
        let lookups = Lookups::default();
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let hang = || {
            let released = released.clone();
            move |_: &str| -> io::Result<()> {
                // Until the test ends.
                let _ = released
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .recv();
                Err(io::Error::other("no such name"))
            }
        };
        let short = Duration::from_millis(20);
        let hosts: Vec<Host> = (0..NEW).map(|_| Host::default()).collect();
        for host in &hosts {
            let error = lookups.ask(host, "bad:1", short, hang()).await;
            let error = error.expect_err("nobody answers");
            assert_eq!(error.to_string(), "the name was not looked up within 20 ms");
            assert_eq!(host.past.get(), Past::Suspect);
        }
        assert_eq!(
            lookups.new.available_permits(),
            0,
            "their threads are still there"
        );
        for host in &hosts[..SUSPECT] {
            let error = lookups.ask(host, "bad:1", short, hang()).await;
            error.expect_err("nobody answers");
        }
        assert_eq!(lookups.suspect.available_permits(), 0);
        let another = lookups.ask(&hosts[SUSPECT], "bad:1", short, hang());
        timeout(2 * short, another)
            .await
            .expect_err("more of them wait, and ask nothing");
        // A name that had an answer waits neither for them nor for new ones.
        let sound = Host::default();
        sound.past.set(Past::Sound);
        let answer = lookups.ask(&sound, "good:1", LIMIT, |name| Ok(name.to_owned()));
        assert_eq!(answer.await.expect("it is answered"), "good:1");
        assert_eq!(sound.past.get(), Past::Sound);
        drop(release);
    }

    #[tokio::test]
    async fn a_name_that_is_answered_again_is_sound_again_and_a_number_is_never_asked_for() {
        let lookups = Lookups::default();
        let host = Host::default();
        let fail = |_: &str| Err::<(), _>(io::Error::other("no such name"));
        lookups
            .ask(&host, "m:1", LIMIT, fail)
            .await
            .expect_err("it fails");
        assert_eq!(host.past.get(), Past::Suspect);
        lookups
            .ask(&host, "m:1", LIMIT, |_| Ok(()))
            .await
            .expect("it is answered");
        assert_eq!(host.past.get(), Past::Sound);
        let found = lookups.addresses(&host, "[::1]:80", Duration::ZERO).await;
        assert_eq!(found.expect("it is one"), ["[::1]:80".parse().unwrap()]);
    }
}
