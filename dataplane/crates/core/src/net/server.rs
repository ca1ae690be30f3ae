//! What all listeners, workers and connections of a process share.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use super::drain::Drain;
use super::limits::ConnectionLimiter;
use super::strangers::Strangers;
use super::tls::Tls;
use crate::config::Limits;
use crate::notice::Notice;
use crate::stats::ProcessStats;

/// Makes a connection.
pub type Entry = Box<dyn Fn(&Server) -> io::Result<UnixStream> + Send + Sync>;

pub struct Server {
    pub limits: Limits,
    pub drain: Drain,
    pub stats: Arc<ProcessStats>,
    pub limiter: ConnectionLimiter,
    /// Callers that want TLS.
    pub strangers: Strangers,
    /// Address of the admin port, once it is bound.
    pub admin: OnceLock<String>,
    /// The TLS of each port that has it, once they are bound.
    secured: Mutex<Vec<Arc<Tls>>>,
    /// How the process connects to itself, once somebody serves.
    pub entry: OnceLock<Entry>,
    /// Another process has the listening sockets, too, and may go on with them.
    is_handed_over: AtomicBool,
    /// Metrics of models' own code, in Prometheus' text format.
    shown_metrics: Mutex<String>,
    /// Documents of the control plane's, by their path on the admin port.
    documents: Mutex<HashMap<String, Arc<str>>>,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        Self {
            drain: Drain::default(),
            stats: Arc::default(),
            limiter: ConnectionLimiter::new(limits.max_connections, limits.max_connections_per_ip),
            strangers: Strangers::default(),
            admin: OnceLock::new(),
            secured: Mutex::default(),
            entry: OnceLock::new(),
            is_handed_over: AtomicBool::new(false),
            shown_metrics: Mutex::default(),
            documents: Mutex::default(),
            limits,
        }
    }

    /// Say, before the drain, that another process goes on with the listening sockets.
    pub fn hand_over(&self) {
        self.is_handed_over.store(true, Relaxed);
    }

    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Relaxed)
    }

    /// A connection of the process's own, through no port: its ports may want a certificate that it has not.
    ///
    /// # Errors
    /// Nobody serves yet, there are too many connections, or the system's.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let entry = self.entry.get();
        entry.ok_or_else(|| io::Error::other("calls are not served yet"))?(self)
    }

    /// The ports with TLS.
    pub fn secured(&self) -> Vec<Arc<Tls>> {
        let secured = self.secured.lock();
        secured.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn add_secured(&self, tls: Arc<Tls>) {
        let secured = self.secured.lock();
        secured.unwrap_or_else(PoisonError::into_inner).push(tls);
    }

    /// What is new for the operator's log.
    pub fn notices(&self) -> Vec<Notice> {
        let secured = self.secured();
        let mut notices: Vec<_> = secured
            .iter()
            .flat_map(|it| it.notices(SystemTime::now()))
            .collect();
        notices.extend(self.strangers.notice(Instant::now()));
        notices
    }

    /// Replace the metrics that Python has rendered.
    pub fn show_metrics(&self, text: String) {
        *self
            .shown_metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Put a document at a path of the admin port, in place of the one before; none takes it away.
    pub fn show_document(&self, path: &str, document: Option<String>) {
        let documents = &self.documents;
        let mut documents = documents.lock().unwrap_or_else(PoisonError::into_inner);
        match document {
            Some(document) => documents.insert(path.to_owned(), document.into()),
            None => documents.remove(path),
        };
    }

    /// The document at a path.
    pub fn document(&self, path: &str) -> Option<Arc<str>> {
        let documents = &self.documents;
        let documents = documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.get(path).cloned()
    }

    /// A page of metrics with those behind it.
    pub fn with_shown_metrics(&self, mut page: String) -> String {
        let shown = &self.shown_metrics;
        page.push_str(&shown.lock().unwrap_or_else(PoisonError::into_inner));
        page
    }
}
