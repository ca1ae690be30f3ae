//! What a certificate says of its owner.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Who a caller is, by a certificate that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its subject alternative names: `client.example`, `spiffe://example/client`, `10.0.0.7`.
    pub names: Vec<String>,
}

/// A certificate of a port's.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub path: String,
    pub subject: String,
    pub names: Vec<String>,
    pub expires: SystemTime,
}

// === impl Identity ===

impl Identity {
    /// Of a certificate that has been verified.
    pub fn of(der: &CertificateDer<'_>) -> Self {
        let parsed = X509Certificate::from_der(der);
        let names = parsed.map_or_else(|_| Vec::new(), |(_, it)| names(&it));
        Self { names }
    }
}

// === impl Certificate ===

impl Certificate {
    /// # Errors
    /// Says what of it cannot be read.
    pub fn read(path: &str, der: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = X509Certificate::from_der(der);
        let (_, parsed) = parsed.map_err(|error| format!("{path}: {error}"))?;
        let expires = parsed.validity().not_after.timestamp();
        let expires = Duration::from_secs(u64::try_from(expires).unwrap_or(0));
        Ok(Self {
            path: path.to_owned(),
            subject: parsed.subject().to_string(),
            names: names(&parsed),
            expires: SystemTime::UNIX_EPOCH + expires,
        })
    }

    /// Whether it is for a host of this name.
    pub fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            // RFC 6125#6.4.3: it stands for one label.
            Some(domain) => host
                .split_once('.')
                .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// A DNS name that looks like a URI is no name: it could be taken for one.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) if !name.contains([':', '/']) => Some((*name).to_owned()),
            GeneralName::URI(name) if name.contains(':') => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets).map(|it| it.to_string()),
            _ => None,
        })
        .collect()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}
