use std::time::Duration;

use super::*;
use crate::config::{ClientAuth, PairConfig};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn the_end_of_a_certificate_is_said_each_day_from_two_weeks_before_it() {
    let folder = std::env::temp_dir().join(format!("dl-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    make_certificates(&folder, vec!["localhost".to_owned()]).expect("certificates");
    let path = |name: &str| folder.join(name).display().to_string();
    let settings = ListenerTls {
        certificates: vec![PairConfig {
            certificate: path("server.pem"),
            key: path("server-key.pem"),
        }],
        client_ca: None,
        client_auth: ClientAuth::None,
        crl: None,
        san: Vec::new(),
        min_version: "1.2".to_owned(),
    };
    let tls = Tls::start("127.0.0.1:1", settings, &[b"h2"]).expect("it starts");
    std::fs::remove_dir_all(&folder).expect("it is there");
    let end = tls.config.ends()[0];
    assert!(end > SystemTime::now() + 364 * DAY);
    let lines = |now| {
        let notices = tls.notices(now).into_iter();
        notices.filter(|it| it.text.contains("expires at")).count()
    };
    assert_eq!(lines(end - 15 * DAY), 0);
    assert_eq!(lines(end - 13 * DAY), 1);
    assert_eq!(lines(end - 13 * DAY), 0, "once a day");
    assert_eq!(lines(end - 12 * DAY), 1);
    assert_eq!(lines(end + DAY), 1, "and after its end");
}
