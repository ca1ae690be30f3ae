use proptest::prelude::*;

use super::*;

fn rule(models: &[&str], versions: Option<&[&str]>, methods: &[Action]) -> RuleConfig {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    RuleConfig {
        models: owned(models),
        versions: versions.map(owned),
        methods: methods.to_vec(),
    }
}

fn allows(allow: &Allow, name: &str, version: Option<&str>, action: Action) -> bool {
    let rule = allow.rule([Some(name), None], [version, None], action.into());
    rule.is_some()
}

#[test]
fn what_no_rule_allows_is_not_allowed() {
    let predict = &[Action::Predict][..];
    let rules = [
        rule(&["digits", "rank*"], None, predict),
        rule(&["wine"], Some(&["3", "stable"]), predict),
        rule(&["digits"], None, &[Action::Metadata]),
    ];
    let allow = Allow::new(&rules).unwrap();
    for (name, version, action, expected) in [
        ("digits", None, Action::Predict, true),
        ("digits", Some("9"), Action::Predict, true),
        ("digits", None, Action::Metadata, true),
        ("digits", None, Action::Admin, false),
        ("rank", None, Action::Predict, true),
        ("ranking", None, Action::Predict, true),
        ("ranking", None, Action::Metadata, false),
        ("Ranking", None, Action::Predict, false),
        ("digits ", None, Action::Predict, false),
        ("Digits", None, Action::Predict, false),
        ("d\u{131}gits", None, Action::Predict, false),
        ("rank*", None, Action::Predict, true),
        ("", None, Action::Predict, false),
        ("wine", Some("3"), Action::Predict, true),
        ("wine", Some("stable"), Action::Predict, true),
        ("wine", Some("03"), Action::Predict, false),
        ("wine", None, Action::Predict, false),
    ] {
        assert_eq!(
            allows(&allow, name, version, action),
            expected,
            "{name:?} {version:?}"
        );
    }
    assert!(allow.needs_version("wine", Action::Predict.into()));
    assert!(!allow.needs_version("digits", Action::Predict.into()));
    assert!(allow.sees("digits") && allow.sees("wine") && !allow.sees("other"));
    // By another name, and by what a label stands for.
    let alias = |names, versions| allow.rule(names, versions, Action::Predict.into());
    assert_eq!(alias([Some("39"), Some("digits")], [None, None]), Some(0));
    assert_eq!(
        alias([Some("wine"), None], [Some("new"), Some("3")]),
        Some(1)
    );
    assert_eq!(alias([Some("39"), None], [None, None]), None);
}

#[test]
fn only_a_star_alone_without_versions_is_every_model() {
    let all = |models: &[&str], versions| {
        let rules = [rule(models, versions, &[Action::Metadata])];
        let allow = Allow::new(&rules).unwrap();
        let of = |action: Action| allow.rule_for_all(action.into()).is_some();
        (of(Action::Metadata), of(Action::Admin))
    };
    assert_eq!(all(&["*"], None), (true, false));
    assert_eq!(all(&["**", "a*"], None), (false, false));
    assert_eq!(all(&["*"], Some(&["1"])), (false, false));
}

#[test]
fn a_caller_with_too_many_patterns_is_refused() {
    let names: Vec<String> = (0..=MAX_PATTERNS).map(|it| format!("{it}*")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = Allow::new(&[rule(&names, None, &[])]).unwrap_err();
    assert!(error.starts_with("65 model names with `*`"), "{error}");
    assert!(Allow::new(&[rule(&names[1..], None, &[])]).is_ok());
}

/// The same question, asked of the rules as they are written.
fn naive(rules: &[RuleConfig], name: &str, version: Option<&str>, action: Action) -> Option<usize> {
    rules.iter().position(|rule| {
        let is_model = rule
            .models
            .iter()
            .any(|pattern| naively_matches(pattern, name));
        let versions = rule.versions.as_ref();
        let is_version = versions
            .is_none_or(|them| version.is_some_and(|it| them.iter().any(|each| each == it)));
        is_model && is_version && rule.methods.contains(&action)
    })
}

fn naively_matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, behind)) => name.strip_prefix(before).is_some_and(|rest| {
            let ends = (0..=rest.len()).filter(|at| rest.is_char_boundary(*at));
            ends.into_iter()
                .any(|at| naively_matches(behind, &rest[at..]))
        }),
    }
}

fn some_rules() -> impl Strategy<Value = Vec<RuleConfig>> {
    let action = prop::sample::select(&[Action::Predict, Action::Metadata, Action::Admin][..]);
    let rule = (
        prop::collection::vec("[ab*\u{e9}]{0,5}", 0..4),
        prop::option::of(prop::collection::vec("[12]", 0..3)),
        prop::collection::vec(action, 0..3),
    );
    let rule = rule.prop_map(|(models, versions, methods)| RuleConfig {
        models,
        versions,
        methods,
    });
    prop::collection::vec(rule, 0..5)
}

proptest! {
    #[test]
    fn compiled_rules_say_what_the_written_ones_say(
        rules in some_rules(),
        name in "[abA\u{e9}]{0,6}",
        version in prop::option::of("[12]"),
        number in 0..3_usize,
    ) {
        let action = [Action::Predict, Action::Metadata, Action::Admin][number];
        let allow = Allow::new(&rules).unwrap();
        let version = version.as_deref();
        let found = allow.rule([Some(&name), None], [version, None], action.into());
        prop_assert_eq!(found, naive(&rules, &name, version, action));
        if !allow.needs_version(&name, action.into()) {
            // Who is not asked for a version is answered without one as with any.
            let without = allow.rule([Some(&name), None], [None, None], action.into());
            prop_assert_eq!(without.is_some(), found.is_some());
        }
    }
}
