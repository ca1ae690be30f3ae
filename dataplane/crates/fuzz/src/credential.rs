//! What a request shows before anybody knows whose it is: signatures, tokens, and the keys of tokens' issuers.

use dl_core::fuzzing::jwks::Jwks;
use dl_core::fuzzing::signing::{Asked, Signature};
use dl_core::fuzzing::tokens::{Issuer, Tokens};

/// Nobody has the private one any more.
const KEY: &str = r#"{"keys": [{"kty": "RSA", "kid": "rsa", "e": "AQAB", "n": "rSWH3MhPKUBIaIVqkdKbQt0U_BFxSlo5PkSKfvz6_PaOhNWFNy5ehorsRRDrgZOK9xzUPLNMBpU9Ox7INPpqA7AzYrJDjfPSoIYLUUrwlyRncBxFVH-SB-QL_F6luh0LBBvGsQM9LVGV4m8tHNE1sUtiuP5Ho92IxiITgWYmGzcWq6q6Xx0jIe40TfNUtSSkddP0gaxWXC-1OFbBPq01AzohKqCsVNbGPlqj_YI766loNhvzkursN9d639MpDXe8UO9bIHIcnUddTuRKsBZn9vmrgXe5Xfbvhg_csJxSdrdaMZAlStvU8yQcQmmf-XAWgIlhebfrhOu7AepJXfpifQ"}]}"#;
/// The one token that there is.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJqb2UiLCJhdWQiOiJ1cyIsInN1YiI6ImFsaWNlIiwiZXhwIjo0MTAyNDQ0ODAwfQ.dhZ3ORIYzPRSp_pifoxyPrVfRxIGi3R3A0qd-dHAwu5RKHmTkQlUAVyabc3LfZ5_6oM120S-G-z9A2GtWyqHGV0jTf7_9zkbzlWcHu-J_SHedBS6DCIBkmBNOTX10setVcnhkHHreW94e5FbmyLiCtLITV-fgymJvBygqBTKohHw3ir20aaBAfFxwLqkXkBFIH9cpoj9x2E3Oa9UgNwGHq4_WoCccSUVRA8fEdvny18P2sLfNA3RqPLG8G_9Ch5xJNzcRqKYRch3v56yqwuTprnrBi1D1YB2wlpDDfMlLAH4tkRSFySlLGElK66CcJRMUfF9XihLsIFEv5uRb1j8UA";
const NOW: u64 = 1_764_000_000;

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    match data {
        [0, header @ ..] => signature(header),
        [1, token @ ..] => {
            let is_taken = tokens(KEY.as_bytes()).is_some_and(|it| it.check(token, NOW).is_ok());
            assert_eq!(is_taken, token == TOKEN.as_bytes());
        }
        [_, keys @ ..] => {
            if let Some(tokens) = tokens(keys) {
                let _ = tokens.check(TOKEN.as_bytes(), NOW);
            }
        }
        [] => {}
    }
}

/// Whoever has no secret is refused, whatever the header says.
fn signature(header: &[u8]) {
    let Ok(signature) = Signature::read(header) else {
        return;
    };
    let asked = Asked {
        verb: "POST",
        path: "/a.B/C",
        model: header,
        version: b"",
    };
    assert!(signature.check(None, &asked, signature.time).is_err());
    let mut body = signature.body();
    body.update(header);
    assert!(body.finish().is_err(), "a header has its own digest");
}

fn tokens(keys: &[u8]) -> Option<Tokens> {
    let keys: Jwks = serde_json::from_slice(keys).ok()?;
    let issuer = Issuer {
        audience: "us".into(),
        keys: keys.keys().ok()?,
        subjects: [("alice".into(), 0)].into_iter().collect(),
        rules: Vec::new(),
    };
    Some(Tokens::new([("joe".into(), issuer)]))
}
