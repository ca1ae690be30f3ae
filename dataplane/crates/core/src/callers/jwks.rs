//! The public keys of an issuer of tokens: a JWKS (RFC 7517), as its file has it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// What ring takes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rs256,
    Es256,
    EdDsa,
}

/// One key that tokens can be verified by.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: Option<Box<str>>,
    public: Public,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The file's content; what else is in it is none of our business.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Jwks {
    pub keys: Vec<Jwk>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

// === impl Kind ===

impl Kind {
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Rs256, Self::Es256, Self::EdDsa];
        all.into_iter().find(|kind| kind.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

// === impl Jwks ===

impl Jwks {
    /// The keys that tokens of ours can be signed with; others are for other uses.
    ///
    /// # Errors
    /// A key of such a kind is none, two have one id, or there is none.
    pub fn keys(&self) -> Result<Vec<Key>, String> {
        let mut keys: Vec<Key> = Vec::new();
        for jwk in self.keys.iter().filter(|jwk| jwk.signs()) {
            let Some(public) = jwk.public() else { continue };
            let id = jwk.kid.as_deref();
            let name = id.unwrap_or("without kid");
            let public = public.map_err(|error| format!("key {name}: {error}"))?;
            let key = Key {
                id: id.map(Into::into),
                public,
            };
            if jwk.alg.as_deref().is_some_and(|it| it != key.kind().name()) {
                continue; // an RSA key for RS512, say
            }
            let is_same = |other: &Key| other.kind() == key.kind() && other.id == key.id;
            if keys.iter().any(is_same) {
                return Err(format!("key {name} appears twice"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err("no key for RS256, ES256 or EdDSA".to_owned());
        }
        Ok(keys)
    }
}

// === impl Jwk ===

impl Jwk {
    fn signs(&self) -> bool {
        self.r#use.as_deref().is_none_or(|it| it == "sig")
    }

    /// None for a kind of key that we do not know.
    fn public(&self) -> Option<Result<Public, String>> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(self.rsa()),
            ("EC", Some("P-256")) => Some(self.p256()),
            ("OKP", Some("Ed25519")) => Some(bytes("x", &self.x, 32).map(Public::Ed25519)),
            _ => None,
        }
    }

    fn rsa(&self) -> Result<Public, String> {
        let number = |name, text| {
            let bytes = decoded(name, text)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Ok::<_, String>(bytes[zeros..].to_vec())
        };
        let (n, e) = (number("n", &self.n)?, number("e", &self.e)?);
        if !RSA_BYTES.contains(&n.len()) {
            let bits = 8 * n.len();
            return Err(format!("n has {bits} bits, not 2048 to 8192"));
        }
        Ok(Public::Rsa { n, e })
    }

    fn p256(&self) -> Result<Public, String> {
        let (x, y) = (bytes("x", &self.x, 32)?, bytes("y", &self.y, 32)?);
        Ok(Public::P256([&[4], &x[..], &y].concat()))
    }
}

fn decoded(name: &str, text: &Option<String>) -> Result<Vec<u8>, String> {
    let text = text.as_deref().ok_or_else(|| format!("it has no {name}"))?;
    let bytes = URL_SAFE_NO_PAD.decode(text);
    bytes.map_err(|_| format!("{name} is not base64url without padding"))
}

fn bytes(name: &str, text: &Option<String>, length: usize) -> Result<Vec<u8>, String> {
    let bytes = decoded(name, text)?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(format!("{name} has {} bytes, not {length}", bytes.len())),
    }
}

// === impl Key ===

impl Key {
    pub const fn kind(&self) -> Kind {
        match self.public {
            Public::Rsa { .. } => Kind::Rs256,
            Public::P256(_) => Kind::Es256,
            Public::Ed25519(_) => Kind::EdDsa,
        }
    }

    /// Whether a text was signed with it.
    pub fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.public {
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature)
            }
            Public::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature)
            }
            Public::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(text, signature),
        };
        verified.is_ok()
    }
}
