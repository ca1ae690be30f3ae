use super::*;
use crate::code::Code;

/// Of `a-key` and `b-key`, which the tests below show.
fn config() -> CallersConfig {
    let sha256 = |key: &str| -> String {
        let digest = digest(&SHA256, key.as_bytes());
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    };
    let allow = serde_json::json!([{"models": ["*"], "versions": null, "methods": ["predict"]}]);
    let config = serde_json::json!({
        "callers": [
            {"name": "a", "keys": [
                {"id": "k1", "sha256": sha256("a-key"), "expires": null},
                {"id": "k0", "sha256": sha256("old-key"), "expires": 1_000_000_000},
                {"id": "k2", "sha256": sha256("new-key"), "expires": 100_000_000_000_u64},
            ], "certificates": ["a.example", "spiffe://x/a"], "signing": [], "tokens": [],
             "limits": null, "model_limits": {}, "allow": allow, "priority": null},
            {"name": "b", "keys": [{"id": "k1", "sha256": sha256("b-key"), "expires": null}],
             "certificates": ["b.example"], "signing": [], "tokens": [],
             "limits": null, "model_limits": {}, "allow": allow, "priority": "low"},
        ],
        "anonymous": null, "jwt": [],
    });
    serde_json::from_value(config).unwrap()
}

fn found(callers: &Callers, key: Option<&'static str>, names: &[&str]) -> Result<String, String> {
    let headers = key.map(|key| ("x-api-key", key)).into_iter().collect();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let request = Request {
        headers: &headers,
        certificate: &names,
        asked: Asked {
            verb: "POST",
            path: "/a.B/C",
            model: b"",
            version: b"",
        },
    };
    let memory = Memory {
        replays: &Replays::new(10),
        tokens: &mut Cache::default(),
    };
    let found = callers.find(&request, memory);
    found
        .map(|found| callers.get(found.index).name.to_string())
        .map_err(|reason| reason.to_string())
}

#[test]
fn a_caller_is_found_by_its_key_or_its_certificate_and_nothing_else_is_one() {
    let callers = Callers::new(&config(), None).unwrap();
    let is = |name: &str| Ok(name.to_owned());
    let is_not = |reason: &str| Err(reason.to_owned());
    for (key, names, expected) in [
        (Some("a-key"), &[][..], is("a")),
        (Some("new-key"), &[], is("a")),
        (Some("b-key"), &[], is("b")),
        (
            Some("old-key"),
            &[],
            is_not("key k0 of a, which has expired"),
        ),
        (
            Some("a-ke"),
            &[],
            is_not("an unknown key (its sha256 begins with 8ea14731)"),
        ),
        (None, &[], is_not("no credential")),
        (None, &["other", "a.example", "spiffe://x/a"], is("a")),
        (None, &["A.example"], is_not("no credential")),
        (
            None,
            &["a.example", "b.example"],
            is_not("credentials of two callers"),
        ),
        (Some("a-key"), &["a.example"], is("a")),
        (Some("a-key"), &["unknown"], is("a")),
        (
            Some("a-key"),
            &["b.example"],
            is_not("credentials of two callers"),
        ),
        (
            Some("wrong"),
            &["a.example"],
            is_not("an unknown key (its sha256 begins with 8810ad58)"),
        ),
    ] {
        assert_eq!(found(&callers, key, names), expected, "{key:?} {names:?}");
    }
}

#[test]
fn who_shows_nothing_is_anonymous_only_where_the_document_says_so() {
    let mut config = config();
    config.anonymous =
        Some(serde_json::from_value(serde_json::json!({"allow": [], "priority": "low"})).unwrap());
    let callers = Callers::new(&config, None).unwrap();
    assert_eq!(found(&callers, None, &[]), Ok("anonymous".to_owned()));
    let wrong = found(&callers, Some("wrong"), &[]);
    assert!(wrong.is_err(), "a wrong key is not as good as none");
}

#[test]
fn callers_that_stay_go_on_with_their_counts_and_those_with_the_same_rules_share_them() {
    let old = Callers::new(&config(), None).unwrap();
    let (a, b) = (&old.callers[0], &old.callers[1]);
    assert!(Arc::ptr_eq(&a.allow, &b.allow));
    b.counts.codes.add(Code::Ok);
    let mut changed = config();
    changed.callers.remove(0);
    let new = Callers::new(&changed, Some(&old)).unwrap();
    assert_eq!(new.callers[0].counts.codes.total(), 1);
    assert_eq!(new.callers[0].priority, Some(Priority::Low));
}

#[test]
fn what_a_caller_has_taken_stays_taken_in_the_next_document() {
    let mut limited = config();
    let limits = |burst: u32| -> crate::config::CallLimits {
        let limits = serde_json::json!({"requests_per_s": 0.001, "burst": burst, "in_flight": null, "bytes_per_s": null,
                                        "instances": 1});
        serde_json::from_value(limits).unwrap()
    };
    let caller = |config: &mut CallersConfig, burst| {
        config.callers[0].limits = Some(limits(burst));
        config.callers[0].model_limits = [("m".to_owned(), limits(burst))].into();
    };
    let left = |callers: &Callers| {
        let caller = &callers.callers[0];
        [caller.limit.as_ref().unwrap(), &caller.at_models["m"]].map(|limit| {
            let taken = |_: &usize| limits::Charges::default().add(limit).is_ok();
            (0..9).take_while(taken).count()
        })
    };
    caller(&mut limited, 2);
    let old = Callers::new(&limited, None).unwrap();
    assert_eq!(left(&old), [2, 2]);
    caller(&mut limited, 5);
    let new = Callers::new(&limited, Some(&old)).unwrap();
    assert_eq!(left(&new), [3, 3], "five less two");
    limited.callers.remove(0);
    limited.callers[0].name = "c".to_owned();
    caller(&mut limited, 2);
    let other = Callers::new(&limited, Some(&new)).unwrap();
    assert_eq!(left(&other), [2, 2], "another caller has taken nothing");
}

#[test]
fn a_document_in_which_one_credential_is_two_callers_is_refused() {
    let error = |change: fn(&mut CallersConfig)| {
        let mut config = config();
        change(&mut config);
        Callers::new(&config, None).err().unwrap_or_default()
    };
    assert_eq!(error(|_| {}), "");
    let text =
        error(|it| it.callers[1].keys[0].sha256 = it.callers[0].keys[0].sha256.to_lowercase());
    assert_eq!(text, "b: key k1 appears twice");
    let text = error(|it| it.callers[1].certificates.push("a.example".into()));
    assert_eq!(text, "b: certificate a.example is another caller's");
    let text = error(|it| it.callers[1].keys[0].sha256.push('0'));
    assert_eq!(text, "b: key k1: sha256 is not 64 digits");
    let text = error(|it| {
        let key = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)});
        let issuer =
            serde_json::json!({"issuer": "joe", "audience": "us", "jwks": {"keys": [key]}});
        it.jwt.push(serde_json::from_value(issuer).unwrap());
        let token = serde_json::json!({"issuer": "joe", "subject": "s", "claims": {}});
        for caller in &mut it.callers {
            caller.tokens = vec![serde_json::from_value(token.clone()).unwrap()];
        }
    });
    assert_eq!(text, "b: s is another caller's");
    let text = error(|it| it.callers[1].priority = Some("top".into()));
    assert_eq!(text, "b: no priority \"top\"");
}

#[test]
fn so_many_callers_have_a_series_of_their_own_and_keep_it() {
    let mut many = config();
    let template = many.callers.remove(1);
    many.callers.clear();
    for number in 0..1002 {
        let mut caller = template.clone();
        caller.name = format!("caller-{number}");
        (caller.keys, caller.certificates) = (Vec::new(), Vec::new());
        many.callers.push(caller);
    }
    let with_own = |callers: &Callers| {
        let mut own: Vec<String> = callers
            .callers
            .iter()
            .filter(|it| it.counts.has_own_series)
            .map(|it| it.name.to_string())
            .collect();
        own.sort();
        own
    };
    let first = Callers::new(&many, None).unwrap();
    assert_eq!(with_own(&first).len(), 1000);
    many.callers.reverse();
    let second = Callers::new(&many, Some(&first)).unwrap();
    assert_eq!(with_own(&second), with_own(&first));
    let mut newcomer = many.callers[0].clone();
    newcomer.name = "newcomer".to_owned();
    many.callers.push(newcomer);
    let third = Callers::new(&many, Some(&second)).unwrap();
    assert_eq!(with_own(&third), with_own(&first), "there are 1,000");
}
