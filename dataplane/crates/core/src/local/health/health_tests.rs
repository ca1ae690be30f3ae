use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::error::ErrorKind;

#[derive(Default)]
struct Fixed(Mutex<BTreeMap<&'static str, Serving>>, Changes);

impl HealthSource for Fixed {
    fn status(&self, service: &str) -> Option<Serving> {
        self.0.lock().unwrap().get(service).copied()
    }
    fn list(&self) -> Vec<(String, Serving)> {
        let states = self.0.lock().unwrap();
        states
            .iter()
            .map(|(name, serving)| ((*name).to_owned(), *serving))
            .collect()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }
    fn is_draining(&self) -> bool {
        false
    }
}

impl Fixed {
    fn set(&self, service: &'static str, serving: Serving) {
        self.0.lock().unwrap().insert(service, serving);
        self.1.bump();
    }
}

#[test]
fn check_answers_the_state_and_nothing_for_an_unknown_service() {
    let source = Fixed::default();
    source.set("", Serving::Serving);
    source.set("digits", Serving::NotServing);
    assert_eq!(check(&source, ""), Some(vec![8, 1]));
    assert_eq!(check(&source, "digits"), Some(vec![8, 2]));
    assert_eq!(check(&source, "other"), None);
}

#[test]
fn list_answers_every_service() {
    let source = Fixed::default();
    source.set("", Serving::Serving);
    source.set("digits", Serving::NotServing);
    let response = HealthListResponse::decode(list(&source).as_slice()).unwrap();
    assert_eq!(response.statuses[""].status(), Serving::Serving);
    assert_eq!(response.statuses["digits"].status(), Serving::NotServing);
    assert_eq!(response.statuses.len(), 2);
}

#[test]
fn watch_speaks_at_the_start_and_after_each_change_only() {
    let source = Fixed::default();
    let mut stream = Watch::new("digits".into());
    assert_eq!(stream.next(&source), Some(vec![8, 3]));
    assert_eq!(stream.next(&source), None);
    source.set("digits", Serving::Serving);
    assert_eq!(stream.next(&source), Some(vec![8, 1]));
    source.set("", Serving::NotServing);
    assert_eq!(stream.next(&source), None);
    source.set("digits", Serving::NotServing);
    source.set("digits", Serving::Serving);
    assert_eq!(stream.next(&source), None);
}

#[tokio::test]
async fn a_change_wakes_those_who_wait_for_one() {
    let source = Fixed::default();
    let mut changes = source.changes();
    source.set("digits", Serving::Serving);
    changes.changed().await.unwrap();
}

#[test]
fn a_message_that_does_not_parse_is_a_bad_request() {
    assert_eq!(
        service_asked(&Bytes::from_static(b"\x0a\x01a")).unwrap(),
        "a"
    );
    assert_eq!(service_asked(&Bytes::from_static(b"")).unwrap(), "");
    assert_eq!(
        service_asked(&Bytes::from_static(b"\xff"))
            .unwrap_err()
            .kind,
        ErrorKind::BadRequest
    );
    assert_eq!(
        service_asked(&Bytes::from_static(b"\x0a\x01\xff"))
            .unwrap_err()
            .kind,
        ErrorKind::BadRequest
    );
}
