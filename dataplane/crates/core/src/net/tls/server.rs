//! What a port's settings and files make of rustls.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::allowed::Allowed;
use super::certificate::Certificate;
use super::files::Files;
use super::followed::{Loaded, Source};
use crate::config::{ClientAuth, ListenerTls};

/// The certificate by the name that a caller asks for; the first where none fits, or none is asked for.
#[derive(Debug)]
struct ByName(Vec<(Certificate, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name();
        let named = host.and_then(|host| self.0.iter().find(|it| it.0.is_for(host)));
        named.or(self.0.first()).map(|it| it.1.clone())
    }
}

/// What a port speaks, by ALPN.
pub type Protocols = &'static [&'static [u8]];

pub struct Port {
    pub settings: ListenerTls,
    pub protocols: Protocols,
}

impl Source for Port {
    type Made = ServerConfig;

    fn paths(&self) -> Vec<&str> {
        let settings = &self.settings;
        let pairs = settings.certificates.iter();
        let mut paths: Vec<&str> = pairs
            .flat_map(|it| [it.certificate.as_str(), it.key.as_str()])
            .collect();
        paths.extend(settings.client_ca.as_deref());
        paths.extend(settings.crl.as_deref());
        paths
    }

    fn make(&self, files: &Files) -> Result<Loaded<ServerConfig>, String> {
        let settings = &self.settings;
        let provider = Arc::new(ring::default_provider());
        let pairs = settings.certificates.iter();
        let pairs = pairs.map(|it| files.pair(it, &provider));
        let pairs = pairs.collect::<Result<Vec<_>, String>>()?;
        let certificates = pairs.iter().map(|it| it.0.clone()).collect();
        let versions: &[_] = match settings.min_version.as_str() {
            "1.2" => &[&TLS12, &TLS13],
            "1.3" => &[&TLS13],
            other => return Err(format!("min_version {other:?} is neither 1.2 nor 1.3")),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match verifier(settings, files)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(pairs)));
        config.alpn_protocols = self.protocols.iter().map(|it| it.to_vec()).collect();
        if settings.client_auth != ClientAuth::None {
            // A session that is taken up again is one whose certificate nobody looks at.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded {
            made: Arc::new(config),
            certificates,
        })
    }
}

fn verifier(
    settings: &ListenerTls,
    files: &Files,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if settings.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let Some(path) = &settings.client_ca else {
        return Err(
            "client_auth asks for certificates: name their authority as client_ca".to_owned(),
        );
    };
    let roots = Arc::new(files.authorities(path)?);
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if let Some(crl) = &settings.crl {
        // An authority of the chain without a list of its own is trusted as one with an empty list.
        builder = builder
            .with_crls(files.revoked(crl)?)
            .allow_unknown_revocation_status();
    }
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder
        .build()
        .map_err(|error| format!("{path}: {error}"))?;
    if settings.san.is_empty() {
        return Ok(Some(inner));
    }
    let names = settings.san.clone();
    Ok(Some(Arc::new(Allowed { inner, names })))
}
