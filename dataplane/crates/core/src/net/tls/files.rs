//! Files in PEM, and what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use crate::config::PairConfig;

/// Larger is no certificate; a list of revoked ones may be.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Their bytes, by their paths.
#[derive(PartialEq, Eq)]
pub struct Files(BTreeMap<String, Vec<u8>>);

// === impl Files ===

impl Files {
    /// # Errors
    /// Names the file that cannot be read.
    pub fn read(paths: &[&str]) -> Result<Self, String> {
        let read = paths.iter().map(|it| Ok(((*it).to_owned(), bytes(it)?)));
        Ok(Self(read.collect::<Result<_, String>>()?))
    }

    fn of(&self, path: &str) -> &[u8] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    /// A certificate and its key.
    ///
    /// # Errors
    /// Names the file that is wrong.
    pub fn pair(
        &self,
        paths: &PairConfig,
        provider: &CryptoProvider,
    ) -> Result<(Certificate, Arc<CertifiedKey>), String> {
        let chain = self.certificates(&paths.certificate)?;
        let told = Certificate::read(&paths.certificate, &chain[0])?;
        let path = &paths.key;
        let key = PrivateKeyDer::from_pem_slice(self.of(path))
            .map_err(|_| format!("{path}: no private key in PEM is in it"))?;
        let pair = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| format!("{path}: not the key of {}: {error}", paths.certificate))?;
        Ok((told, Arc::new(pair)))
    }

    /// # Errors
    /// Names the file that is wrong.
    pub fn authorities(&self, path: &str) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{path}: {error}"))?;
        }
        Ok(roots)
    }

    /// Lists of revoked certificates.
    ///
    /// # Errors
    /// Names the file that is wrong.
    pub fn revoked(
        &self,
        path: &str,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
        let lists = CertificateRevocationListDer::pem_slice_iter(self.of(path));
        let lists: Result<Vec<_>, _> = lists.collect();
        let lists = lists.map_err(|_| format!("{path}: not PEM"))?;
        if lists.is_empty() {
            return Err(format!(
                "{path}: no list of revoked certificates in PEM is in it"
            ));
        }
        Ok(lists)
    }

    fn certificates(&self, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.of(path)).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(format!("{path}: no certificate in PEM is in it")),
        }
    }
}

fn bytes(path: &str) -> Result<Vec<u8>, String> {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        if length > MAX_FILE_BYTES {
            let text = format!("{length} bytes, the limit is {MAX_FILE_BYTES}");
            return Err(std::io::Error::other(text));
        }
        std::fs::read(path)
    };
    read().map_err(|error| format!("{path}: {error}"))
}
