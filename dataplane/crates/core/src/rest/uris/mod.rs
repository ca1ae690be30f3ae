//! Data that a request names by URI, fetched from the hosts that an allow-list names.

mod allowed;
mod get;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::call::limit::{Held, HeldBytes};
use crate::config::UriConfig;
use crate::error::{Error, ErrorKind};
use allowed::Allowed;

/// Hosts that may pass a request on to another.
const MAX_REDIRECTS: usize = 3;
/// URIs of one request.
const MAX_URIS: usize = 256;
/// Those of them that are fetched at a time.
const AT_ONCE: usize = 8;
/// Characters of a URI.
const MAX_URI: usize = 8192;
/// Characters of a URI that an error's text shows.
const SHOWN: usize = 120;

/// What a URI stood for.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: Bytes,
    /// Media type, without parameters, in lower case; empty if unknown.
    pub media_type: String,
    /// Counts the bytes among those that the process holds.
    pub held: Held,
}

/// Fetches what URIs name; nothing where no host is allowed.
#[derive(Debug)]
pub struct Uris(Option<Remote>);

#[derive(Debug)]
struct Remote {
    allowed: Allowed,
    /// Media types; `image/*` is all images, none is all.
    types: Vec<String>,
    timeout: Duration,
    tls: Arc<ClientConfig>,
    max_bytes: usize,
    held: Arc<HeldBytes>,
}

// === impl Uris ===

impl Uris {
    /// # Errors
    /// Names the entry of the configuration that cannot be read.
    pub fn new(config: &UriConfig, held: Arc<HeldBytes>) -> Result<Self, String> {
        let allowed = Allowed::new(&config.hosts, &config.networks)?;
        if config.hosts.is_empty() {
            return Ok(Self::none());
        }
        let mut roots = RootCertStore::empty();
        // What the system holds and cannot be read is left out: a host that needs it fails, and says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| error.to_string())?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let remote = Remote {
            allowed,
            types: config
                .types
                .iter()
                .map(|it| it.to_ascii_lowercase())
                .collect(),
            timeout: Duration::from_millis(config.timeout_ms),
            tls: Arc::new(tls),
            max_bytes: config.max_bytes,
            held,
        };
        Ok(Self(Some(remote)))
    }

    /// Nothing is fetched from anywhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// Fetch several at once; one result for each, in their order.
    ///
    /// # Errors
    /// `bad_request`: they are too many.
    pub async fn fetch_all(
        self: &Arc<Self>,
        uris: Vec<String>,
    ) -> Result<Vec<Result<Fetched, Error>>, Error> {
        if uris.len() > MAX_URIS {
            let text = format!(
                "a request names {} data by URI, and at most {MAX_URIS} are fetched: send several requests",
                uris.len()
            );
            return Err(Error::new(ErrorKind::BadRequest, text));
        }
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut fetching = JoinSet::new();
        let mut fetched: Vec<_> = uris.iter().map(|_| None).collect();
        for (index, uri) in uris.into_iter().enumerate() {
            let (this, turns) = (self.clone(), turns.clone());
            // They end with the set when nobody waits for it any more.
            fetching.spawn(async move {
                let _turn = turns.acquire().await;
                (index, this.fetch(&uri).await)
            });
        }
        while let Some(ended) = fetching.join_next().await {
            if let Ok((index, result)) = ended {
                fetched[index] = Some(result);
            }
        }
        let lost = || Error::new(ErrorKind::Internal, "fetching it failed");
        let fetched = fetched.into_iter();
        Ok(fetched
            .map(|it| it.unwrap_or_else(|| Err(lost())))
            .collect())
    }

    /// # Errors
    /// `bad_request`: no URI. `uri_denied`: the allow-list, or a limit. `uri_failed`: the host. `shed`: too many bytes
    /// are held.
    pub async fn fetch(&self, uri: &str) -> Result<Fetched, Error> {
        if uri.len() > MAX_URI {
            let text = format!(
                "a URI of {} characters is over the limit of {MAX_URI}",
                uri.len()
            );
            return Err(Error::new(ErrorKind::BadRequest, text));
        }
        let parsed = Url::parse(uri).map_err(|error| {
            let text = format!("{:?} is no URI: {error}", shown(uri));
            Error::new(ErrorKind::BadRequest, text)
        })?;
        let Some(remote) = &self.0 else {
            return Err(denied(
                &parsed,
                "only data: URIs are taken here, as uris.hosts names no host",
            ));
        };
        let fetching = remote.fetch(parsed.clone());
        timeout(remote.timeout, fetching).await.unwrap_or_else(|_| {
            let limit = remote.timeout.as_millis();
            Err(failed(
                &parsed,
                &format!("it took longer than {limit} ms (uris.timeout_ms)"),
            ))
        })
    }
}

// === impl Remote ===

impl Remote {
    async fn fetch(&self, mut uri: Url) -> Result<Fetched, Error> {
        for _ in 0..=MAX_REDIRECTS {
            // Each hop anew: a host of the list does not vouch for where it sends us.
            if !matches!(uri.scheme(), "http" | "https") {
                return Err(denied(&uri, "URIs to fetch are http or https"));
            }
            if !uri.username().is_empty() || uri.password().is_some() {
                return Err(denied(&uri, "a URI with a login is not taken"));
            }
            if !self.allowed.names(&uri) {
                return Err(denied(&uri, "its host and port are not in uris.hosts"));
            }
            let stream = get::connect(&uri, &self.allowed, &self.tls).await?;
            match get::get(
                stream,
                &uri,
                &self.types,
                self.max_bytes,
                Held::new(self.held.clone()),
            )
            .await?
            {
                get::Answered::Whole(fetched) => return Ok(fetched),
                get::Answered::Elsewhere(location) => {
                    let next = uri.join(&location);
                    uri = next.map_err(|_| failed(&uri, "it redirects to what is no URI"))?;
                }
            }
        }
        Err(failed(
            &uri,
            &format!("more than {MAX_REDIRECTS} redirects led here"),
        ))
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    let (essence, _) = media_type.split_once(';').unwrap_or((media_type, ""));
    essence.trim().to_ascii_lowercase()
}

fn shown(uri: &str) -> String {
    let mut shown: String = uri.chars().take(SHOWN).collect();
    if shown.len() < uri.len() {
        shown.push_str("...");
    }
    shown
}

/// How a URI is called in an error's text: without a query, which may hold secrets, and a login.
fn name(uri: &Url) -> String {
    let host = uri.host_str().unwrap_or_default();
    let port = uri
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    shown(&format!("{}://{host}{port}{}", uri.scheme(), uri.path()))
}

fn denied(uri: &Url, why: &str) -> Error {
    Error::new(ErrorKind::UriDenied, format!("{}: {why}", name(uri)))
}

fn failed(uri: &Url, why: &str) -> Error {
    Error::new(ErrorKind::UriFailed, format!("{}: {why}", name(uri)))
}

#[cfg(test)]
#[path = "uris_tests.rs"]
mod tests;
