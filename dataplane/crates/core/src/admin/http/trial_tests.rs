use super::*;
use crate::config::Limits;
use crate::testing::limits;

#[test]
fn a_path_is_one_line_whatever_it_holds_and_keeps_its_escapes() {
    for (path, expected) in [
        ("/v2/models/wine/infer", "/v2/models/wine/infer"),
        ("/v2/models/a%2Fb/infer", "/v2/models/a%2Fb/infer"),
        ("/v1/models/m:predict?x=1", "/v1/models/m:predict?x=1"),
        ("/v2/a b\r\nx: y", "/v2/a%20b%0D%0Ax:%20y"),
        ("/v2/<\"ü#", "/v2/%3C%22%C3%BC%23"),
    ] {
        assert_eq!(encoded(path), expected);
    }
}

#[test]
fn only_pages_of_this_machine_may_call_not_those_whose_name_came_to_mean_it() {
    for (host, expected) in [
        ("localhost:8502", true),
        ("127.0.0.1:8502", true),
        ("[::1]:8502", true),
        ("evil.example:8502", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        assert_eq!(is_of_this_machine(&headers), expected, "{host}");
    }
    assert!(!is_of_this_machine(&HeaderMap::new()));
}

#[tokio::test]
async fn a_call_is_refused_without_the_header_elsewhere_and_when_too_large() {
    let limits: Limits = serde_json::from_value(limits()).expect("they are valid");
    let trials = Trials {
        server: Arc::new(Server::new(limits)),
        max_bytes: 4,
        is_for_all: false,
    };
    let ask = |method: &str, header: &str, host: &str, path: &str, body: &'static str| {
        Request::builder()
            .method(method)
            .uri(format!("/try?path={path}"))
            .header(header, "x")
            .header(HOST, host)
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap()
    };
    let (here, order, good) = ("localhost", ORDER_HEADER, "%2Fv2%2Fmodels%2Fm");
    for (request, trials, status) in [
        (ask("GET", order, here, good, ""), Some(trials.clone()), 405),
        (
            ask("POST", "x-other", here, good, ""),
            Some(trials.clone()),
            405,
        ),
        (ask("POST", order, here, good, ""), None, 403),
        (
            ask("POST", order, "evil.example", good, ""),
            Some(trials.clone()),
            403,
        ),
        (
            ask("POST", order, here, "/status", ""),
            Some(trials.clone()),
            400,
        ),
        (
            ask("POST", order, here, "/v2/../status", ""),
            Some(trials.clone()),
            400,
        ),
        (
            ask("POST", order, here, good, "12345"),
            Some(trials.clone()),
            413,
        ),
        // Nobody serves yet.
        (
            ask("POST", order, here, good, "1234"),
            Some(trials.clone()),
            502,
        ),
    ] {
        let answered = answer(request, trials).await;
        assert_eq!(answered.status(), status);
    }
}
