//! An address, shared by every cluster that names it and by all workers, and whether it can be reached.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use http::uri::Authority;

use crate::config::UpstreamTls;
use crate::headers::{Headers, Token};
use crate::net::tls::{Client, Secured};

/// An endpoint whose last connect succeeded this short a time ago is live although it has no connection now:
/// servers close connections of their own accord (max age, idle), and the next connect is under way.
const RECENT_CONNECT: Duration = Duration::from_secs(5);

/// What a connection is opened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `host:port`, resolved at each connect.
    Tcp(String),
    Unix(PathBuf),
}

/// One `host:port` or `unix:/path`.
pub struct Address {
    pub id: u64,
    pub text: Box<str>,
    pub target: Target,
    /// Its TLS.
    pub secured: Option<Secured>,
    /// `:authority` of requests to it.
    pub authority: Authority,
    /// Value of the trailer `access-endpoint`.
    pub header: Arc<str>,
    state: Mutex<Connectivity>,
    users: Mutex<Vec<Weak<dyn User>>>,
}

#[derive(Default)]
struct Connectivity {
    /// Workers that have a usable connection.
    workers: usize,
    last_success: Option<Instant>,
    /// Since when it is known not to be live.
    down_since: Option<SystemTime>,
    /// Connects that ended, well or badly.
    attempts: u64,
    /// How often it was lost or came.
    changes: u64,
    /// Why the last connect failed.
    reason: String,
    /// What the users know: whether it was live, and whether a connect had ended.
    told: (bool, bool),
}

/// Who is told when an address becomes reachable, or is lost: an endpoint.
pub trait User: Send + Sync {
    fn connectivity_changed(&self);
}

// === impl Address ===

impl Address {
    /// Parse an address of the configuration.
    ///
    /// # Errors
    /// A text that names the address and what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let target = match text.strip_prefix("unix:") {
            Some("") => return Err(format!("{text}: a unix address needs a path")),
            Some(path) => Target::Unix(path.into()),
            None => Target::Tcp(host_port(text)?.to_owned()),
        };
        let authority = match &target {
            Target::Tcp(host) => host.parse().map_err(|error| format!("{text}: {error}"))?,
            Target::Unix(_) => Authority::from_static("localhost"),
        };
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            text: text.into(),
            target,
            secured: None,
            authority,
            // A path may hold what metadata may not.
            header: ascii(text).into(),
            state: Mutex::default(),
            users: Mutex::default(),
        })
    }

    /// The same over TLS; a unix socket has none.
    ///
    /// # Errors
    /// A text that names the address and what is wrong with its name.
    pub fn with_tls(self, client: &Arc<Client>, tls: &UpstreamTls) -> Result<Self, String> {
        let Target::Tcp(target) = &self.target else {
            return Ok(self);
        };
        let wrong = |error: &dyn std::fmt::Display| format!("{target}: {error}");
        let host = target.rsplit_once(':').map_or("", |it| it.0);
        let secured = Secured::new(client.clone(), tls, host).map_err(|it| wrong(&it))?;
        let authority = match &tls.server_name {
            Some(name) => name.parse().map_err(|error| wrong(&error))?,
            None => self.authority.clone(),
        };
        Ok(Self {
            secured: Some(secured),
            authority,
            ..self
        })
    }

    /// The beginning of a request to it, to which fields are added.
    pub fn request(&self, path: &str) -> Headers {
        let mut head = Headers::roomy();
        head.push(Token::METHOD, "POST");
        head.push(Token::SCHEME, self.scheme());
        head.push(Token::PATH, path);
        head.push(Token::AUTHORITY, self.authority.as_str());
        head
    }

    /// `:scheme` of requests to it.
    pub fn scheme(&self) -> &'static str {
        if self.secured.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// How it is spoken to.
    pub fn tls(&self) -> Option<&UpstreamTls> {
        self.secured.as_ref().map(|it| &it.settings)
    }

    /// Whether calls may be sent to it (design.md, Pool).
    pub fn is_live(&self) -> bool {
        lock(&self.state).is_live()
    }

    /// Whether calls may be sent to it, how often that has changed, and why the last connect failed.
    pub fn seen(&self) -> (bool, u64, String) {
        let state = lock(&self.state);
        let reason = if state.reason.is_empty() {
            "no connection".to_owned()
        } else {
            state.reason.clone()
        };
        (state.is_live(), state.changes, reason)
    }

    /// Since when it cannot be reached, and why; none while it can, or was not tried yet.
    pub fn down(&self) -> Option<(SystemTime, String)> {
        let state = lock(&self.state);
        let since = state.down_since.filter(|_| !state.is_live())?;
        Some((since, state.reason.clone()))
    }

    /// Whether no connect has ended yet: it may turn out live any moment.
    pub fn is_pending(&self) -> bool {
        lock(&self.state).attempts == 0
    }

    /// A worker got its first usable connection.
    pub fn connected(&self) {
        self.change(|state| {
            state.workers += 1;
            state.attempts += 1;
            state.last_success = Some(Instant::now());
        });
    }

    /// A worker lost its last usable connection.
    pub fn disconnected(&self) {
        self.change(|state| state.workers = state.workers.saturating_sub(1));
    }

    /// A worker could not connect.
    pub fn connect_failed(&self, reason: String) {
        self.change(|state| {
            state.attempts += 1;
            state.last_success = None;
            state.reason = reason;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Connectivity)) {
        {
            let state = &mut *lock(&self.state);
            let was_live = state.is_live();
            change(state);
            let is_live = state.is_live();
            state.changes += u64::from(is_live != was_live);
            if is_live {
                state.down_since = None;
            } else {
                state.down_since.get_or_insert_with(SystemTime::now);
            }
            // One that stays dead is no news, however often it is tried. Not compared with `was_live`: that ends by
            // itself some time after a loss.
            let told = (is_live, state.attempts > 0);
            if std::mem::replace(&mut state.told, told) == told {
                return;
            }
        }
        let users: Vec<_> = {
            let mut users = lock(&self.users);
            users.retain(|user| user.strong_count() > 0);
            users.iter().filter_map(Weak::upgrade).collect()
        };
        for user in users {
            user.connectivity_changed();
        }
    }

    /// Tell a user of every change from now on.
    pub fn add_user(&self, user: Weak<dyn User>) {
        lock(&self.users).push(user);
    }
}

impl Connectivity {
    fn is_live(&self) -> bool {
        let is_recent = |at: Instant| at.elapsed() < RECENT_CONNECT;
        self.workers > 0 || self.last_success.is_some_and(is_recent)
    }
}

/// The text, with escapes in place of what is no visible ASCII.
fn ascii(text: &str) -> String {
    let escape = |char: char| {
        let is_plain = char == ' ' || char.is_ascii_graphic();
        let escaped = (!is_plain).then(|| char.escape_default());
        escaped
            .into_iter()
            .flatten()
            .chain(is_plain.then_some(char))
    };
    text.chars().flat_map(escape).collect()
}

fn host_port(text: &str) -> Result<&str, String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text);
    }
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains([':', '/', '@'])
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        Ok(text)
    } else {
        Err(format!("{text}: not host:port, [v6]:port or unix:/path"))
    }
}

/// The state behind these locks is a few counters that no panic can leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_or_refused_with_the_reason() {
        for good in [
            "127.0.0.1:5000",
            "[::1]:5000",
            "model-a.svc:80",
            "unix:/tmp/a.sock",
            "unix:/tmp/modèle d'été.sock",
        ] {
            assert_eq!(&*Address::new(good).expect(good).text, good);
        }
        for bad in [
            "",
            "host",
            "host:0",
            "host:99999",
            "::1:80",
            "a/b:80",
            "user@host:80",
            "unix:",
        ] {
            let error = Address::new(bad)
                .err()
                .unwrap_or_else(|| panic!("{bad} was taken"));
            assert!(error.starts_with(&format!("{bad}: ")), "{error}");
        }
    }

    #[test]
    fn an_address_is_live_with_a_connection_or_shortly_after_a_good_connect() {
        let address = Address::new("127.0.0.1:1").expect("valid");
        assert!(!address.is_live() && address.is_pending());
        address.connected();
        address.disconnected();
        assert!(address.is_live() && !address.is_pending());
        address.connect_failed("refused".to_owned());
        assert_eq!(address.seen(), (false, 2, "refused".to_owned()));
    }

    #[derive(Default)]
    struct Counting(AtomicU64);

    impl User for Counting {
        fn connectivity_changed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_address_that_stays_dead_is_told_of_once() {
        let address = Address::new("127.0.0.1:1").expect("valid");
        let user = Arc::new(Counting::default());
        let weak: Weak<dyn User> = Arc::<Counting>::downgrade(&user);
        address.add_user(weak);
        let told = |change: &dyn Fn()| {
            change();
            user.0.load(Ordering::Relaxed)
        };
        let fail = || address.connect_failed("refused".to_owned());
        assert_eq!(told(&fail), 1);
        assert_eq!(told(&fail), 1);
        assert_eq!(told(&|| address.connected()), 2);
        assert_eq!(
            told(&|| address.disconnected()),
            2,
            "it still counts as live"
        );
        assert_eq!(told(&fail), 3);
        assert_eq!(told(&fail), 3);
    }
}
