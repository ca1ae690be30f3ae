//! TLS towards endpoints: whom they are believed to be, and what we show of ourselves.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
};

use super::files::Files;
use super::followed::{Followed, Loaded, Source, TlsView};
use crate::config::UpstreamTls;
use crate::notice::Notice;

/// Authorities and a certificate of our own, for all endpoints of clusters that name the same files.
pub struct Client {
    /// Without its name: it is an endpoint's.
    settings: UpstreamTls,
    config: Followed<ClientConfig>,
}

/// How one address is spoken to.
#[derive(Clone)]
pub struct Secured {
    pub client: Arc<Client>,
    pub settings: UpstreamTls,
    /// That its certificate has to be for, and that it is asked for.
    pub name: ServerName<'static>,
}

impl Source for UpstreamTls {
    type Made = ClientConfig;

    fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self.ca.as_deref().into_iter().collect();
        if let Some(pair) = &self.certificate {
            paths.extend([pair.certificate.as_str(), pair.key.as_str()]);
        }
        paths
    }

    fn make(&self, files: &Files) -> Result<Loaded<ClientConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let roots = match &self.ca {
            Some(path) => files.authorities(path)?,
            None => system_roots()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        let pair = self.certificate.as_ref();
        let pair = pair.map(|it| files.pair(it, &provider)).transpose()?;
        let (certificate, pair) = pair.unzip();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12, &TLS13])
            .map_err(|error| error.to_string())?
            .with_webpki_verifier(verifier);
        let mut config = match pair {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A session that is taken up again is one whose certificate nobody looks at.
        config.resumption = Resumption::disabled();
        Ok(Loaded {
            made: Arc::new(config),
            certificates: certificate.into_iter().collect(),
        })
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // What cannot be read is left out: an endpoint that needs it fails, and says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let text = "the system has no certificates of authorities: install ca-certificates, or name a file as `ca`";
        return Err(text.to_owned());
    }
    Ok(roots)
}

// === impl Client ===

impl Client {
    /// Read the files, and follow them; `cluster`: the first that names them.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn start(cluster: &str, settings: &UpstreamTls) -> Result<Self, String> {
        let settings = UpstreamTls {
            server_name: None,
            ..settings.clone()
        };
        let config = Followed::start(&format!("cluster {cluster}"), settings.clone());
        let config = config.map_err(|error| format!("cluster {cluster}: tls: {error}"))?;
        Ok(Self { settings, config })
    }

    /// Whether it is for these settings.
    pub fn is_for(&self, settings: &UpstreamTls) -> bool {
        self.settings.ca == settings.ca && self.settings.certificate == settings.certificate
    }

    /// What the operator should read.
    pub fn notices(&self, now: SystemTime) -> Vec<Notice> {
        self.config.notices(now)
    }

    /// What /status says.
    pub fn status(&self) -> Value {
        self.config.status()
    }

    /// What /metrics shows.
    pub fn view(&self, cluster: &str) -> TlsView {
        self.config.view("cluster", cluster)
    }
}

// === impl Secured ===

impl Secured {
    /// `host` is the endpoint's, without its port.
    ///
    /// # Errors
    /// A certificate cannot be for that name.
    pub fn new(client: Arc<Client>, settings: &UpstreamTls, host: &str) -> Result<Self, String> {
        let name = settings.server_name.as_deref().unwrap_or(host);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let parsed = ServerName::try_from(name.to_owned());
        let parsed = parsed
            .map_err(|_| format!("no certificate is for the name {name:?}: set tls.server_name"))?;
        Ok(Self {
            client,
            settings: settings.clone(),
            name: parsed,
        })
    }

    /// Shake hands.
    ///
    /// # Errors
    /// Says what failed, and what to do.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.client.config.made());
        let connected = connector.connect(self.name.clone(), stream).await;
        let stream = connected.map_err(|error| handshake_error(&error).unwrap_or(error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(
                "TLS: it does not offer HTTP/2 (ALPN h2), which gRPC needs",
            ));
        }
        Ok(stream)
    }
}

/// What an error of a TLS connection means, where it is one of TLS. With 1.3, an endpoint says only after the handshake
/// that it does not take our certificate.
pub fn handshake_error(error: &io::Error) -> Option<io::Error> {
    let tls = error.get_ref()?.downcast_ref::<Error>()?;
    Some(io::Error::new(
        error.kind(),
        format!("TLS: {}", meaning(tls)),
    ))
}

fn meaning(error: &Error) -> String {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            format!("its certificate has expired ({error})")
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            format!("its certificate is not valid yet: compare the clocks ({error})")
        }
        // The signature does not fit where another authority has the same name.
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is of an unknown authority: name that one's file as tls.ca".to_owned()
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("its certificate is for another name: set tls.server_name ({error})")
        }
        Error::InvalidCertificate(_) => format!("its certificate is bad ({error})"),
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => format!(
            "it does not take our certificate, or wants one: see tls.certificate and tls.key ({error})"
        ),
        Error::AlertReceived(Alert::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            "it does not offer HTTP/2 (ALPN h2), which gRPC needs".to_owned()
        }
        Error::InvalidMessage(_) => {
            format!("its answer is not TLS: the port may be without it ({error})")
        }
        _ => error.to_string(),
    }
}
