use super::*;

fn listing(lists: Lists, is_of_one: bool) -> Rc<Listing> {
    Rc::new(Listing {
        lists,
        versions: vec![("1".into(), true), ("2".into(), false)],
        is_of_one,
    })
}

fn whole(listing: &Rc<Listing>, answer: &[u8]) -> Bytes {
    let mut completion = listing.completion().expect("it asks for no version");
    for byte in answer {
        completion.push(std::slice::from_ref(byte));
    }
    completion.finish()
}

fn states(framed: &[u8]) -> Vec<(i64, State)> {
    let answer = GetModelStatusResponse::decode(&framed[PREFIX..]).expect("a message of ours");
    let states = answer.model_version_status.iter();
    states.map(|each| (each.version, each.state())).collect()
}

#[test]
fn an_endpoints_own_word_wins_and_the_other_versions_are_added() {
    let said = vec![model_status::entry(1, State::Loading, None)];
    let answer = framed(&model_status::encode(said));
    assert_eq!(
        states(&whole(&listing(Lists::Status, false), &answer)),
        [(2, State::Unknown), (1, State::Loading)]
    );
    assert!(listing(Lists::Status, true).completion().is_none());
}

#[test]
fn what_is_not_known_here_of_an_answer_stays() {
    // Field 99, a text.
    let unknown = [0x9a, 0x06, 0x02, b'h', b'i'];
    let said = ModelMetadataResponse {
        versions: vec!["2".to_owned()],
        ..ModelMetadataResponse::default()
    };
    let message = [&unknown[..], &said.encode_to_vec()].concat();
    let answer = whole(&listing(Lists::Metadata, false), &framed(&message));
    assert_eq!(&answer[PREFIX..][..message.len()], message);
    let answer = ModelMetadataResponse::decode(&answer[PREFIX..]).expect("still a message");
    assert_eq!(answer.versions, ["2", "1"]);
}

#[test]
fn an_answer_that_is_no_plain_message_passes_as_it_is() {
    let compressed = [1, 0, 0, 0, 2, 7, 7];
    let garbage = [0, 0, 0, 0, 2, 0xff, 0xff];
    for answer in [&compressed[..], &garbage, &[0, 0], &[]] {
        assert_eq!(whole(&listing(Lists::Status, false), answer), answer);
    }
}
