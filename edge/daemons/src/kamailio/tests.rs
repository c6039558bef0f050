use super::*;

const DIALOGS: &str = include_str!("../../fixtures/kamailio-dlg.list.json");
const CONTACTS: &str = include_str!("../../fixtures/kamailio-ul.dump.json");

#[test]
fn real_answers_are_calls_and_registrations() {
    let told = calls(result(DIALOGS.as_bytes()).unwrap()).unwrap();
    let first = &told[0];
    assert_eq!(first.key, "dlg:4:3013");
    assert_eq!(first.user.as_deref(), Some("sip:u127@10.77.0.1"));
    assert_eq!(first.what.as_deref(), Some("call to sip:svc1@10.77.0.1"));
    assert_eq!((first.age, first.busy, first.role), (Some(Span::seconds(88)), Busy::Active, Role::User));
    assert!(!first.by_connection);
    let told = registrations(result(CONTACTS.as_bytes()).unwrap()).unwrap();
    assert_eq!(told[0].user.as_deref(), Some("sip:r847@10.77.0.1"));
    assert_eq!(told[0].what.as_deref(), Some("registered at sip:r847@10.77.0.2:5070"));
    assert_eq!(told[0].role, Role::Presence);
}

#[test]
fn what_is_cut_off_garbage_or_no_utf_8_is_an_error_and_never_an_empty_list() {
    for cut in 0..DIALOGS.trim_end().len() {
        let told = result(&DIALOGS.as_bytes()[..cut]).and_then(calls);
        assert!(told.is_err(), "{cut}");
    }
    for text in ["", "null", "[]", "{}", "{\"result\":{}}", "{\"result\":[{}]}", "{\"result\":[{\"h_entry\":-1}]}", "x"]
    {
        assert!(result(text.as_bytes()).and_then(calls).is_err(), "{text}");
    }
    let evil =
        br#"{"result":[{"h_entry":1,"h_id":2,"from_uri":"sip:a\u001b[2J\n@b","to_uri":"sip:\xff\xfe@b","state":4}]}"#;
    let mut evil = evil.to_vec();
    let at = evil.windows(4).position(|four| four == br"\xff").unwrap();
    evil.splice(at..at + 8, [0xff, 0xfe]);
    let told = result(&evil).and_then(calls).unwrap();
    assert!(told[0].what.as_deref().unwrap().contains('\u{fffd}'));
    let refused = result(br#"{"error":{"code":404,"message":"Dialog not found"}}"#).unwrap_err();
    assert!(refused.to_string().contains("Dialog not found"));
}

#[test]
fn fifty_thousand_calls_are_read() {
    let one = r#"{"h_entry":1,"h_id":2,"from_uri":"sip:a@b","to_uri":"sip:c@d","state":4,"duration":1}"#;
    let many = format!("{{\"result\":[{}]}}", vec![one; 50_000].join(","));
    assert_eq!(result(many.as_bytes()).and_then(calls).unwrap().len(), 50_000);
}

#[test]
fn the_flag_is_found_among_others() {
    let dump = json!([{"entry": 1, "size": 2, "slot": [
        {"name": "redirect", "value": "b:5060", "type": "str"}, {"name": "state", "value": "drain", "type": "str"}]}]);
    assert_eq!(state_in(&dump).as_deref(), Some("drain"));
    for other in [json!([]), json!(null), json!([{"slot": [{"name": "states", "value": "drain"}]}])] {
        assert_eq!(state_in(&other), None);
    }
}

#[test]
fn a_reason_cannot_make_another_header() {
    assert_eq!(plain("gone\r\nEvil: \"x\\"), "goneEvil: x");
    assert_eq!((pair("dlg:4:3013"), pair("ul:x"), pair("dlg:4"), pair("dlg:a:b")), (Some((4, 3013)), None, None, None));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 5_000,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..proptest::prelude::ProptestConfig::default()
    })]

    /// A recorded answer, damaged at some places: an error, or calls that can be named to it again.
    #[test]
    fn a_damaged_answer_is_an_error_or_calls(damage in proptest::collection::vec((0..DIALOGS.len(), 0_u8..), 1..6)) {
        let mut answer = DIALOGS.as_bytes().to_vec();
        for (at, byte) in damage {
            answer[at] = byte;
        }
        for one in result(&answer).and_then(calls).unwrap_or_default() {
            proptest::prop_assert!(pair(&one.key).is_some(), "it could not be ended: {one:?}");
        }
        let _ = result(&answer).and_then(registrations);
    }
}
