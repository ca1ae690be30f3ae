//! Files that are read again when they change, and what is made of them; the old is kept while the new are bad.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::certificate::Certificate;
use super::files::Files;
use crate::notice::Notice;

/// Between two looks at the files: a change is used within a second.
const LOOK: Duration = Duration::from_millis(500);
/// How long before its end a certificate is spoken of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// Between two lines on the same certificate's end.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What is made of files.
pub trait Source: Send + Sync + 'static {
    type Made: Send + Sync + 'static;

    fn paths(&self) -> Vec<&str>;

    /// # Errors
    /// Names the file that is wrong.
    fn make(&self, files: &Files) -> Result<Loaded<Self::Made>, String>;
}

pub struct Loaded<T> {
    pub made: Arc<T>,
    pub certificates: Vec<Certificate>,
}

/// What is made of the files as they are. Dropped, it follows them no more.
pub struct Followed<T> {
    current: Arc<Current<T>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Current<T> {
    owner: String,
    made: ArcSwap<T>,
    told: Mutex<Told>,
}

/// What the operator hears.
struct Told {
    certificates: Vec<Certificate>,
    loaded: SystemTime,
    /// Why what is in the files now is not used, and since when.
    refused: Option<(String, SystemTime)>,
    notices: Vec<Notice>,
    warned: Option<SystemTime>,
}

/// What /metrics shows.
#[derive(Clone, Debug)]
pub struct TlsView {
    /// `listen` or `cluster`.
    pub label: &'static str,
    /// The port's address, or the cluster's name.
    pub owner: String,
    /// What the files hold is what is used.
    pub is_current: bool,
    /// Certificates by their file, and when each expires, s since 1970.
    pub expires: Vec<(String, u64)>,
}

// === impl Followed ===

impl<T: Send + Sync + 'static> Followed<T> {
    /// Read the files, and follow them; `owner`: what the operator knows them by.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn start(owner: &str, source: impl Source<Made = T>) -> Result<Self, String> {
        let files = Files::read(&source.paths())?;
        let Loaded { made, certificates } = source.make(&files)?;
        let current = Arc::new(Current {
            owner: owner.to_owned(),
            made: ArcSwap::new(made),
            told: Mutex::new(Told {
                certificates,
                loaded: SystemTime::now(),
                refused: None,
                notices: Vec::new(),
                warned: None,
            }),
        });
        let (stop, stopped) = channel();
        let followed = current.clone();
        let thread = std::thread::Builder::new()
            .name("dl-tls".to_owned())
            .spawn(move || followed.follow(&source, files, &stopped))
            .map_err(|error: io::Error| error.to_string())?;
        Ok(Self {
            current,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub fn made(&self) -> Arc<T> {
        self.current.made.load_full()
    }

    /// What the operator should read.
    pub fn notices(&self, now: SystemTime) -> Vec<Notice> {
        let mut told = self.current.told();
        let is_due = told.warned.is_none_or(|it| now >= it + AGAIN);
        let lines: Vec<_> = told
            .certificates
            .iter()
            .filter(|_| is_due)
            .filter(|it| it.expires <= now + SOON)
            .map(|it| {
                let (path, end) = (&it.path, humantime::format_rfc3339_seconds(it.expires));
                let owner = &self.current.owner;
                Notice::warning(format!(
                    "{owner}: the certificate in {path} expires at {end}: put a new one and its key in place"
                ))
            })
            .collect();
        if !lines.is_empty() {
            told.warned = Some(now);
        }
        let mut notices = std::mem::take(&mut told.notices);
        notices.extend(lines);
        notices
    }

    /// What /status says.
    pub fn status(&self) -> Value {
        let told = self.current.told();
        let refused = told.refused.as_ref();
        json!({
            "loaded_unix_s": unix_s(told.loaded),
            "error": refused.map(|it| &it.0),
            "error_since_unix_s": refused.map(|it| unix_s(it.1)),
            "certificates": told.certificates.iter().map(|it| json!({
                "path": it.path,
                "subject": it.subject,
                "names": it.names,
                "expires_unix_s": unix_s(it.expires),
            })).collect::<Vec<_>>(),
        })
    }

    /// What /metrics shows.
    pub fn view(&self, label: &'static str, owner: &str) -> TlsView {
        let told = self.current.told();
        let ends = told.certificates.iter();
        TlsView {
            label,
            owner: owner.to_owned(),
            is_current: told.refused.is_none(),
            expires: ends
                .map(|it| (it.path.clone(), unix_s(it.expires)))
                .collect(),
        }
    }

    #[cfg(test)]
    pub fn ends(&self) -> Vec<SystemTime> {
        let told = self.current.told();
        told.certificates.iter().map(|it| it.expires).collect()
    }
}

impl<T> Drop for Followed<T> {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
    }
}

// === impl Current ===

impl<T> Current<T> {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take what the files hold into use whenever it changes. Whole contents are compared: a new file of the same second
    /// and size, and a link that is turned, are changes too.
    fn follow(&self, source: &impl Source<Made = T>, mut seen: Files, stopped: &Receiver<()>) {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let found = Files::read(&source.paths());
            if found.as_ref() == Ok(&seen) && self.told().refused.is_none() {
                continue;
            }
            let loaded = found.and_then(|files| Ok((source.make(&files)?, files)));
            let (owner, mut told) = (&self.owner, self.told());
            match loaded {
                Ok((loaded, files)) => {
                    self.made.store(loaded.made);
                    seen = files;
                    told.certificates = loaded.certificates;
                    (told.loaded, told.refused, told.warned) = (SystemTime::now(), None, None);
                    let text =
                        format!("{owner}: the TLS files have changed; new connections use them");
                    told.notices.push(Notice::info(text));
                }
                Err(error) => {
                    if told.refused.as_ref().is_none_or(|it| it.0 != error) {
                        let text = format!(
                            "{owner}: the TLS files have changed, and the old ones stay in use: {error}"
                        );
                        told.notices.push(Notice::warning(text));
                        let since = told.refused.take().map_or_else(SystemTime::now, |it| it.1);
                        told.refused = Some((error, since));
                    }
                }
            }
        }
    }
}

fn unix_s(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |it| it.as_secs())
}
