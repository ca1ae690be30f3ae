//! Certificates for trying TLS out: an authority, and a pair of a server and of a client.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Write `ca.pem`, `server.pem`, `client.pem` and the key of each into a folder; return their names.
///
/// # Errors
/// A file that is there already, or cannot be written, or a name that no certificate can have. Files are there all or
/// none, but where the disk is full.
pub fn make_certificates(folder: &Path, hosts: Vec<String>) -> Result<Vec<String>, String> {
    let (authority, server, client) = made(hosts).map_err(|error| error.to_string())?;
    let files = [
        ("ca.pem", authority.0),
        ("ca-key.pem", authority.1),
        ("server.pem", server.0),
        ("server-key.pem", server.1),
        ("client.pem", client.0),
        ("client-key.pem", client.1),
    ];
    if let Some((name, _)) = files.iter().find(|it| folder.join(it.0).exists()) {
        let path = folder.join(name);
        return Err(format!(
            "{} is there already: choose another folder",
            path.display()
        ));
    }
    for (name, text) in &files {
        let path = folder.join(name);
        let mode = if name.ends_with("-key.pem") {
            0o600
        } else {
            0o644
        };
        written(&path, mode, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(files.iter().map(|it| it.0.to_owned()).collect())
}

type Pair = (String, String);

fn made(hosts: Vec<String>) -> Result<(Pair, Pair, Pair), rcgen::Error> {
    let key = KeyPair::generate()?;
    // A list of revoked certificates is found by its authority's name: another one has another.
    let [.., a, b, c, d] = *key.public_key_raw() else {
        return Err(rcgen::Error::CouldNotParseKeyPair);
    };
    let id = u32::from_be_bytes([a, b, c, d]);
    let mut params = params(
        &format!("trial authority of dl-inference {id:08x}"),
        Vec::new(),
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = (params.self_signed(&key)?.pem(), key.serialize_pem());
    let issuer = Issuer::new(params, key);
    let server = pair(
        "server",
        hosts,
        ExtendedKeyUsagePurpose::ServerAuth,
        &issuer,
    )?;
    let name = vec!["client".to_owned()];
    let client = pair("client", name, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    Ok((authority, server, client))
}

fn pair(
    name: &str,
    names: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Pair, rcgen::Error> {
    let mut params = params(name, names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    // Another machine's clock may be behind.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + YEAR).into();
    Ok(params)
}

fn written(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
