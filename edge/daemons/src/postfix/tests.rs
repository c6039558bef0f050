use proptest::prelude::*;

use super::queue::messages;
use super::*;
use ebb_model::Span;

/// As Postfix 3.7.11 told it, addresses shortened.
const QUEUE: &str = "\
{\"queue_name\": \"deferred\", \"queue_id\": \"4jb50g6H95z1SdDB\", \"arrival_time\": 1795718323, \"message_size\": 275, \"forced_expire\": false, \"sender\": \"a@x.test\", \"recipients\": [{\"address\": \"b@x.test\", \"delay_reason\": \"connect to 127.0.0.1[127.0.0.1]:2525: Connection refused\"}]}
{\"queue_name\": \"active\", \"queue_id\": \"4jb50g6H95z1SdDC\", \"arrival_time\": 1795718320, \"message_size\": 275, \"forced_expire\": false, \"sender\": \"\", \"recipients\": [{\"address\": \"c@x.test\"}, {\"address\": \"d@x.test\"}]}
{\"queue_name\": \"hold\", \"queue_id\": \"4jb50g6H95z1SdDD\", \"arrival_time\": 1795718321, \"message_size\": 275, \"forced_expire\": false, \"sender\": \"a@x.test\", \"recipients\": []}
";

#[test]
fn what_is_on_its_way_counts_and_comes_first_and_what_waits_is_parked_with_why() {
    let told = messages(QUEUE.as_bytes(), 1_795_718_330).unwrap();
    let line = |one: &Use| format!("{} {} {:?}", one.user.as_deref().unwrap(), one.what.as_deref().unwrap(), one.role);
    assert_eq!(
        told.iter().map(line).collect::<Vec<_>>(),
        [
            "<> active: to c@x.test and 1 more User",
            "a@x.test deferred: to b@x.test: connect to 127.0.0.1[127.0.0.1]:2525: Connection refused Parked",
            "a@x.test hold: to nobody Parked",
        ]
    );
    assert!(told.iter().all(|one| !one.by_connection && one.kind == UseKind::Message));
    assert_eq!((told[0].key.as_str(), told[0].age), ("4jb50g6H95z1SdDC", Some(Span::seconds(10))));
    assert!(messages(b"", 0).unwrap().is_empty(), "an empty queue");
}

#[test]
fn half_a_queue_is_an_error() {
    for cut in 1..QUEUE.len() {
        let whole = QUEUE.as_bytes()[cut - 1] == b'\n';
        assert_eq!(messages(&QUEUE.as_bytes()[..cut], 0).is_ok(), whole, "{cut}");
    }
    for text in ["\n", "null\n", "{}\n", "[]\n", "Mail queue is empty\n", "{\"queue_name\":1}\n"] {
        assert!(messages(text.as_bytes(), 0).is_err(), "{text:?}");
    }
}

#[test]
fn fifty_thousand_messages_with_odd_names_are_read() {
    let one = b"{\"queue_name\":\"active\",\"queue_id\":\"1\",\"arrival_time\":18446744073709551615,\"sender\":\"\\u001b[2J\xff\",\"recipients\":[{\"address\":\"a\\nb\"}]}\n";
    let told = messages(&one.repeat(50_000), 7).unwrap();
    assert_eq!((told.len(), told[0].age), (50_000, Some(Span::ZERO)));
    assert_eq!(told[0].user.as_deref(), Some("\u{1b}[2J\u{fffd}"));
}

#[test]
fn a_master_of_something_else_is_no_postfix() {
    let seen =
        Seen { executables: ["master".to_owned()].into(), pids: [std::process::id(), 1].into(), ..Seen::default() };
    assert!(!is_postfix(&seen));
}

#[test]
fn sessions_by_their_processes() {
    let of = |name: &str, writes| {
        let process = Process { pid: 7, name: name.into(), started: 1, ..Process::default() };
        let told = session(&process, SocketAddr::from(([192, 0, 2, 7], 9)), writes);
        (told.what.unwrap(), told.busy)
    };
    assert_eq!(of("smtpd", true), ("SMTP: a mail is handed over".to_owned(), Busy::Inside));
    assert_eq!(of("smtpd", false), ("SMTP: between mails".to_owned(), Busy::Idle));
    assert_eq!(of("postscreen", false).1, Busy::NotLoggedIn);
    assert_eq!(of("qmqpd", false), ("qmqpd".to_owned(), Busy::Unknown));
}

#[tokio::test]
async fn a_folder_without_configuration_is_told_and_not_taken_for_an_empty_queue() {
    let settings = DaemonSettings { database: Some("/nonexistent".to_owned()), ..DaemonSettings::default() };
    let postfix = Postfix::new(&Seen::default(), &settings);
    let told = postfix.uses(9).await;
    assert!(told.is_err(), "{told:?}");
    assert!(matches!(postfix.abilities().await.unwrap().list, Ability::Missing { .. }));
}

proptest! {
    #[test]
    fn any_queue_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = messages(&bytes, 0);
    }
}
