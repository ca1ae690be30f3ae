use super::*;

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("parsed: {text}"),
        Err(error) => error,
    }
}

fn row(more: &str) -> String {
    format!("[[method]]\npath = \"/a.B/C\"\nkind = \"predict\"\nprotocol = \"tfs\"\n{more}\n")
}

#[test]
fn the_compiled_in_table_parses_and_every_method_is_found() {
    let table = parse(TABLE).unwrap();
    assert_eq!(table.methods.len(), all().len());
    for (id, method) in all().iter().enumerate() {
        assert_eq!(method.id, id);
        assert_eq!(find(&method.path).unwrap().id, id);
    }
    assert!(find("/seldon.protos.Model/predict").is_none());
    assert!(find("").is_none());
}

#[test]
fn the_dl_inference_service_goes_to_the_servers_own_methods() {
    const SERVICE: &str = "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/";
    let rows = [
        (
            "Predict",
            "/tensorflow.serving.PredictionService/Predict",
            Protocol::Tfs,
        ),
        (
            "PytorchPredict",
            "/seldon.protos.Model/Predict",
            Protocol::Seldon,
        ),
        (
            "CaffePredict",
            "/seldon.protos.Model/Predict",
            Protocol::Seldon,
        ),
        (
            "TisPredict",
            "/inference.GRPCInferenceService/ModelInfer",
            Protocol::Oip,
        ),
    ];
    for (name, upstream, protocol) in rows {
        let method = find(&format!("{SERVICE}{name}")).unwrap();
        assert_eq!(method.upstream, upstream);
        assert_eq!(method.protocol, protocol);
        assert!(method.task_id && method.idempotent);
    }
    assert_eq!(
        all().iter().filter(|method| method.task_id).count(),
        rows.len()
    );
    assert!(
        all()
            .iter()
            .all(|method| method.task_id || method.upstream == *method.path)
    );
}

#[test]
fn only_feedback_and_streams_of_the_forwarded_methods_may_not_be_sent_twice() {
    for method in all() {
        let forwarded = matches!(method.kind, Kind::Predict | Kind::Metadata);
        let once = method.path.ends_with("/SendFeedback") || method.streaming != Streaming::Unary;
        assert_eq!(method.idempotent, forwarded && !once, "{}", method.path);
    }
}

#[test]
fn every_predict_method_says_where_its_key_is() {
    for method in all() {
        match method.kind {
            Kind::Predict => assert!(!method.plan.is_empty(), "{}", method.path),
            Kind::Local | Kind::Admin => assert!(method.plan.is_empty(), "{}", method.path),
            Kind::Metadata => {}
        }
    }
}

#[test]
fn a_malformed_row_is_refused_and_named() {
    assert!(refused("").contains("method"));
    assert!(refused(&row("kex = []")).contains("kex"));
    assert!(refused(&[row(""), row("")].concat()).contains("/a.B/C: appears twice"));
    assert!(refused(&row("upstream = \"a.B/C\"")).contains("/package.Service/Method"));
    assert!(refused(&row("streaming = \"bidi\"\nidempotent = true")).contains("idempotent"));
    assert!(refused(&row("version = \"2\"")).contains("without a key"));
    for key in [
        "",
        "0",
        "1.",
        "x",
        "1.1[]",
        "[model]",
        "536870912",
        "1.1:int64",
    ] {
        assert!(
            refused(&row(&format!("key = [\"{key}\"]"))).contains("/a.B/C: key"),
            "{key}"
        );
    }
    assert!(refused(&row("key = [\"1.1.1.1.1.1.1.1.1\"]")).contains("too deeply"));
    parse(&row("key = [\"1.1.1.1.1.1.1.1\"]")).unwrap();
    assert!(refused(&row("key = [\"1\", \"2\", \"3\"]")).contains("at most 2"));
    assert!(refused(&row("key = [\"1.1\", \"2.1\"]")).contains("another message"));
    for keys in ["\"1\", \"2\"", "\"2[model]\""] {
        assert!(refused(&row(&format!("key = [{keys}]"))).contains("inside of the request"));
    }
    for version in ["2", "2:int64"] {
        let text = row(&format!("key = [\"1.1\"]\nversion = \"{version}\""));
        assert!(refused(&text).contains("another message than the key"));
    }
    assert!(refused(&row("key = [\"1.1\"]\nlabel = \"1.2\"")).contains("without a version"));
    let label = "key = [\"1.1\"]\nversion = \"1.2\"\nlabel = \"2\"";
    assert!(refused(&row(label)).contains("another message than the key"));
    assert!(refused(&row("key = [\"1\"]\nversion = \"1\"")).contains("two roles"));
    assert!(refused(&row("key = [\"1.1\"]\nversion = \"1\"")).contains("two kinds"));
}

#[test]
fn only_paths_of_the_form_service_method_are_valid() {
    let long = |service, name| format!("/{}/{}", "s".repeat(service), "m".repeat(name));
    for good in ["/a/b", "/a.B_9/C_1", &long(256, 128)] {
        assert!(is_valid_path(good), "{good}");
    }
    for bad in [
        "",
        "/",
        "a/b",
        "/a",
        "//b",
        "/a/",
        "/a/b/c",
        "/a/b.c",
        "/a-b/c",
        "/a/b?x",
        "/ä/b",
        &long(257, 1),
        &long(1, 129),
    ] {
        assert!(!is_valid_path(bad), "{bad}");
    }
}
