use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fastrand::Rng;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::jwks::Jwks;
use super::token_cache::{Cache, MOST};
use super::tokens::{Issuer, MOST_BYTES, Rule, Tokens, Verified, Wrong};

const NOW: u64 = 1_764_000_000;
/// The public key, and a token of it until 2100: RSA keys are made elsewhere.
const RSA_N: &str = "rSWH3MhPKUBIaIVqkdKbQt0U_BFxSlo5PkSKfvz6_PaOhNWFNy5ehorsRRDrgZOK9xzUPLNMBpU9Ox7INPpqA7AzYrJDjfPSoIYLUUrwlyRncBxFVH-SB-QL_F6luh0LBBvGsQM9LVGV4m8tHNE1sUtiuP5Ho92IxiITgWYmGzcWq6q6Xx0jIe40TfNUtSSkddP0gaxWXC-1OFbBPq01AzohKqCsVNbGPlqj_YI766loNhvzkursN9d639MpDXe8UO9bIHIcnUddTuRKsBZn9vmrgXe5Xfbvhg_csJxSdrdaMZAlStvU8yQcQmmf-XAWgIlhebfrhOu7AepJXfpifQ";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJqb2UiLCJhdWQiOiJ1cyIsInN1YiI6ImFsaWNlIiwiZXhwIjo0MTAyNDQ0ODAwfQ.dhZ3ORIYzPRSp_pifoxyPrVfRxIGi3R3A0qd-dHAwu5RKHmTkQlUAVyabc3LfZ5_6oM120S-G-z9A2GtWyqHGV0jTf7_9zkbzlWcHu-J_SHedBS6DCIBkmBNOTX10setVcnhkHHreW94e5FbmyLiCtLITV-fgymJvBygqBTKohHw3ir20aaBAfFxwLqkXkBFIH9cpoj9x2E3Oa9UgNwGHq4_WoCccSUVRA8fEdvny18P2sLfNA3RqPLG8G_9Ch5xJNzcRqKYRch3v56yqwuTprnrBi1D1YB2wlpDDfMlLAH4tkRSFySlLGElK66CcJRMUfF9XihLsIFEv5uRb1j8UA";

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with a key of each kind.
struct Joe {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    random: SystemRandom,
}

impl Joe {
    fn new() -> Self {
        let random = SystemRandom::new();
        let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Self {
            p256: EcdsaKeyPair::from_pkcs8(kind, p256.as_ref(), &random).expect("a key"),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).expect("a key"),
            random,
        }
    }

    fn jwks(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB", "use": "sig"},
            {"kty": "EC", "crv": "P-256", "kid": "p256", "x": base64(&point[1..33]), "y": base64(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64(self.ed25519.public_key())},
            {"kty": "oct", "kid": "secret", "k": base64(b"a secret")},
            {"kty": "EC", "crv": "P-521", "kid": "far"},
            {"kty": "RSA", "kid": "sealing", "use": "enc"},
        ]})
    }

    /// With the callers alice (1), by subject, and whoever is of the team (2).
    fn tokens(&self) -> Tokens {
        let issuer = Issuer {
            audience: "us".into(),
            keys: keys(self.jwks()).expect("keys"),
            subjects: [("alice".into(), 1)].into_iter().collect(),
            rules: vec![Rule {
                claims: vec![
                    ("groups".into(), "team".into()),
                    ("env".into(), "prod".into()),
                ],
                caller: 2,
            }],
        };
        Tokens::new([("joe".into(), issuer)])
    }

    fn sign(&self, head: &Value, claims: &str) -> String {
        let signed = format!("{}.{}", base64(head.to_string()), base64(claims));
        let signature = match head["alg"].as_str() {
            Some("ES256") => {
                let made = self.p256.sign(&self.random, signed.as_bytes());
                base64(made.expect("a signature"))
            }
            _ => base64(self.ed25519.sign(signed.as_bytes())),
        };
        format!("{signed}.{signature}")
    }
}

fn keys(jwks: Value) -> Result<Vec<super::jwks::Key>, String> {
    let jwks: Jwks = serde_json::from_value(jwks).map_err(|error| error.to_string())?;
    jwks.keys()
}

fn ed() -> Value {
    json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"})
}

fn claims() -> Value {
    json!({"iss": "joe", "aud": "us", "sub": "alice", "exp": NOW + 600})
}

/// The claims of alice, but for some.
fn with(changes: Value) -> String {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    claims.to_string()
}

#[test]
fn a_token_of_each_kind_of_key_is_its_callers() {
    let joe = Joe::new();
    let tokens = joe.tokens();
    for head in [
        ed(),
        json!({"alg": "ES256", "kid": "p256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "EdDSA", "jku": "https://evil.example/keys", "jwk": {"kty": "oct"}}),
    ] {
        let token = joe.sign(&head, &claims().to_string());
        let verified = tokens.check(token.as_bytes(), NOW).expect("it is right");
        assert_eq!(
            verified,
            Verified {
                caller: 1,
                from: 0,
                until: NOW + 660
            }
        );
    }
    let verified = tokens
        .check(RSA_TOKEN.as_bytes(), NOW)
        .expect("it is right");
    assert_eq!(verified.caller, 1);
}

#[test]
fn a_caller_is_known_by_subject_or_by_all_claims_of_a_rule() {
    let joe = Joe::new();
    let tokens = joe.tokens();
    for (changes, caller) in [
        (
            json!({"sub": "bob", "groups": ["x", "team"], "env": "prod"}),
            Ok(2),
        ),
        (
            json!({"sub": "bob", "groups": "team", "env": "prod"}),
            Ok(2),
        ),
        (json!({"sub": null, "groups": "team", "env": "prod"}), Ok(2)),
        (json!({"sub": "bob", "groups": "team"}), Err(Wrong::Caller)),
        (
            json!({"sub": "bob", "groups": ["teams"], "env": "prod"}),
            Err(Wrong::Caller),
        ),
        (json!({"sub": "Alice"}), Err(Wrong::Caller)),
        (json!({"sub": ["alice"]}), Err(Wrong::Caller)),
    ] {
        let token = joe.sign(&ed(), &with(changes.clone()));
        let found = tokens.check(token.as_bytes(), NOW).map(|it| it.caller);
        assert_eq!(found, caller, "{changes}");
    }
}

#[test]
fn a_wrong_claim_is_refused() {
    let joe = Joe::new();
    let tokens = joe.tokens();
    for (changes, wrong) in [
        (json!({"iss": "jane"}), Wrong::Issuer),
        (json!({"iss": ["joe"]}), Wrong::Form),
        (json!({"iss": null}), Wrong::Form),
        (json!({"aud": "them"}), Wrong::Audience),
        (json!({"aud": ["them", "US"]}), Wrong::Audience),
        (json!({"aud": null}), Wrong::Audience),
        (json!({"exp": NOW - 60}), Wrong::Expired),
        (json!({"exp": null}), Wrong::Form),
        (json!({"exp": "never"}), Wrong::Form),
        (json!({"exp": -1}), Wrong::Form),
        (json!({"exp": 1e300}), Wrong::Form),
        (json!({"nbf": NOW + 61}), Wrong::Early),
        (json!({"nbf": "soon"}), Wrong::Form),
    ] {
        let token = joe.sign(&ed(), &with(changes.clone()));
        assert_eq!(tokens.check(token.as_bytes(), NOW), Err(wrong), "{changes}");
    }
    for changes in [
        json!({"aud": ["them", "us"]}),
        json!({"exp": NOW - 59}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 60}),
    ] {
        let token = joe.sign(&ed(), &with(changes.clone()));
        assert!(tokens.check(token.as_bytes(), NOW).is_ok(), "{changes}");
    }
    let mut endless = claims();
    endless.as_object_mut().expect("claims").remove("exp");
    let token = joe.sign(&ed(), &endless.to_string());
    assert_eq!(tokens.check(token.as_bytes(), NOW), Err(Wrong::Form));
    // Whoever reads the last of two reads alice.
    let twice = with(json!({})).replace(r#""sub""#, r#""sub":"bob","sub""#);
    let many = (0..101)
        .map(|number| (format!("c{number}"), Value::from(1)))
        .collect();
    for claims in [
        &twice,
        &with(Value::Object(many)),
        "[]",
        "{}",
        "",
        "{\"iss\":\"joe\"",
        "\"joe\"",
    ] {
        let token = joe.sign(&ed(), claims);
        assert_eq!(
            tokens.check(token.as_bytes(), NOW),
            Err(Wrong::Form),
            "{claims}"
        );
    }
}

#[test]
fn a_wrong_algorithm_or_key_is_refused() {
    let joe = Joe::new();
    let tokens = joe.tokens();
    let claims = claims().to_string();
    for (head, wrong) in [
        (json!({"alg": "none"}), Wrong::Algorithm),
        (json!({"alg": "None", "kid": "ed"}), Wrong::Algorithm),
        (json!({"alg": "HS256", "kid": "secret"}), Wrong::Algorithm),
        (json!({"alg": "RS512", "kid": "rsa"}), Wrong::Algorithm),
        (json!({"alg": "eddsa", "kid": "ed"}), Wrong::Algorithm),
        (json!({"alg": "RS256", "kid": "ed"}), Wrong::Key),
        (json!({"alg": "ES256", "kid": "ed"}), Wrong::Key),
        (json!({"alg": "EdDSA", "kid": "ED"}), Wrong::Key),
        (json!({"alg": "EdDSA", "kid": ""}), Wrong::Key),
        (json!({"alg": "RS256", "kid": "sealing"}), Wrong::Key),
        (json!({"alg": "EdDSA", "kid": 7}), Wrong::Form),
        (json!({"alg": ["EdDSA"], "kid": "ed"}), Wrong::Form),
        (json!({"kid": "ed"}), Wrong::Form),
        (
            json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}),
            Wrong::Form,
        ),
        (json!({"alg": "RS256", "kid": "rsa"}), Wrong::Signature),
    ] {
        let token = joe.sign(&head, &claims);
        assert_eq!(tokens.check(token.as_bytes(), NOW), Err(wrong), "{head}");
    }
    // The public key as if it were a secret.
    let signed = format!(
        "{}.{}",
        base64(json!({"alg": "HS256", "kid": "ed"}).to_string()),
        base64(&claims)
    );
    let secret = hmac::Key::new(hmac::HMAC_SHA256, joe.ed25519.public_key().as_ref());
    let forged = format!(
        "{signed}.{}",
        base64(hmac::sign(&secret, signed.as_bytes()))
    );
    assert_eq!(tokens.check(forged.as_bytes(), NOW), Err(Wrong::Algorithm));
    // Another one's key of the same id.
    let forged = Joe::new().sign(&ed(), &claims);
    assert_eq!(tokens.check(forged.as_bytes(), NOW), Err(Wrong::Signature));
    let twice = format!(
        "{}.{}.",
        base64(r#"{"alg":"EdDSA","alg":"none"}"#),
        base64(&claims)
    );
    assert_eq!(tokens.check(twice.as_bytes(), NOW), Err(Wrong::Form));
}

#[test]
fn a_token_that_names_no_key_is_of_the_only_one_of_its_kind() {
    let joe = Joe::new();
    let token = joe.sign(&json!({"alg": "EdDSA"}), &claims().to_string());
    assert!(joe.tokens().check(token.as_bytes(), NOW).is_ok());
    let mut jwks = joe.jwks();
    let more = json!({"kty": "OKP", "crv": "Ed25519", "kid": "next", "x": base64([7; 32])});
    jwks["keys"].as_array_mut().expect("keys").push(more);
    let issuer = Issuer {
        audience: "us".into(),
        keys: keys(jwks).expect("keys"),
        subjects: [("alice".into(), 1)].into_iter().collect(),
        rules: Vec::new(),
    };
    let tokens = Tokens::new([("joe".into(), issuer)]);
    assert_eq!(tokens.check(token.as_bytes(), NOW), Err(Wrong::Key));
}

#[test]
fn what_is_no_token_is_refused() {
    let joe = Joe::new();
    let tokens = joe.tokens();
    let good = joe.sign(&ed(), &claims().to_string());
    assert!(tokens.check(good.as_bytes(), NOW).is_ok());
    for end in 0..good.len() {
        assert!(tokens.check(&good.as_bytes()[..end], NOW).is_err(), "{end}");
    }
    for wrong in [
        format!("{good}="),
        format!("{good}.{good}"),
        format!(".{good}"),
        good.replace('.', ".."),
        good.replace('.', " "),
        "..".to_owned(),
        ".".repeat(100),
    ] {
        assert!(tokens.check(wrong.as_bytes(), NOW).is_err(), "{wrong}");
    }
    let deep = format!(
        "{}.{}.x",
        base64("[".repeat(3000)),
        base64("{\"a\":".repeat(500))
    );
    assert_eq!(tokens.check(deep.as_bytes(), NOW), Err(Wrong::Form));
    let huge = with(json!({"x": "x".repeat(MOST_BYTES)}));
    let huge = joe.sign(&ed(), &huge);
    assert_eq!(tokens.check(huge.as_bytes(), NOW), Err(Wrong::Form));
}

#[test]
fn no_change_of_a_token_is_taken() {
    let joe = Joe::new();
    let tokens = joe.tokens();
    for seed in 0..4000 {
        let mut random = Rng::with_seed(seed);
        let head = if seed % 2 == 0 {
            ed()
        } else {
            json!({"alg": "ES256"})
        };
        let mut token = joe.sign(&head, &claims().to_string()).into_bytes();
        let before = token.clone();
        for _ in 0..random.u8(1..=2) {
            let at = random.usize(..token.len());
            match random.u8(..4) {
                0 => token[at] = random.u8(..),
                1 => token[at] ^= 1 << random.u8(..8),
                2 => token.insert(at, random.alphanumeric() as u8),
                _ => drop(token.remove(at)),
            }
        }
        let taken = tokens.check(&token, NOW);
        assert!(taken.is_err() || token == before, "seed {seed}");
    }
}

#[test]
fn a_jwks_is_refused_where_a_key_cannot_be_used() {
    let good = Joe::new().jwks();
    assert_eq!(keys(good.clone()).expect("three").len(), 3);
    for (at, name, value, part) in [
        (0, "n", json!("AQAB"), "n has 24 bits"),
        (0, "n", json!(null), "it has no n"),
        (0, "n", json!("a+b="), "not base64url"),
        (1, "x", json!("AQAB"), "x has 3 bytes, not 32"),
        (1, "y", json!(null), "it has no y"),
        (2, "x", json!("AQAB"), "key ed: x has 3 bytes"),
    ] {
        let mut bad = good.clone();
        bad["keys"][at][name] = value;
        let error = keys(bad).expect_err("a bad key");
        assert!(error.contains(part), "{error}");
    }
    let mut twice = good.clone();
    twice["keys"][3] = twice["keys"][2].clone();
    assert_eq!(keys(twice).expect_err("two"), "key ed appears twice");
    for none in [json!({"keys": []}), json!({"keys": [good["keys"][3]]})] {
        assert_eq!(
            keys(none).expect_err("none"),
            "no key for RS256, ES256 or EdDSA"
        );
    }
    let mut other = good.clone();
    other["keys"][2]["alg"] = json!("Ed448");
    assert_eq!(keys(other).expect("two").len(), 2);
}

#[test]
fn a_verified_token_is_remembered_until_it_expires_or_its_issuers_change() {
    let joe = Joe::new();
    let (tokens, mut cache) = (joe.tokens(), Cache::default());
    let token = joe.sign(&ed(), &claims().to_string());
    for (now, is_right) in [
        (NOW, true),
        (NOW + 659, true),
        (NOW + 660, false),
        (NOW, true),
    ] {
        let found = cache.check(&tokens, token.as_bytes(), now);
        assert_eq!(found.is_ok(), is_right, "{now}");
    }
    assert_eq!(cache.count(), 1);
    let gone = Tokens::new([]);
    assert_eq!(
        cache.check(&gone, token.as_bytes(), NOW),
        Err(Wrong::Issuer)
    );
    assert_eq!(cache.count(), 0);
    let soon = joe.sign(&ed(), &with(json!({"nbf": NOW + 90})));
    assert_eq!(
        cache.check(&tokens, soon.as_bytes(), NOW),
        Err(Wrong::Early)
    );
    assert!(cache.check(&tokens, soon.as_bytes(), NOW + 30).is_ok());
    assert_eq!(
        cache.check(&tokens, soon.as_bytes(), NOW),
        Err(Wrong::Early),
        "remembered or not"
    );
}

#[test]
fn no_more_than_a_bounded_number_of_tokens_is_remembered() {
    let joe = Joe::new();
    let (tokens, mut cache) = (joe.tokens(), Cache::default());
    for number in 0..MOST + 10 {
        let token = joe.sign(&ed(), &with(json!({"jti": number})));
        assert!(cache.check(&tokens, token.as_bytes(), NOW).is_ok());
        assert!(cache.count() <= MOST);
    }
}
