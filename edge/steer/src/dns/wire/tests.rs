//! Name servers that are slow, broken, or lie: each is an error within its time, and none is believed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use domain::tsig::{Algorithm, KeyName, ServerTransaction};
use proptest::prelude::*;

use super::*;

fn key() -> Arc<Key> {
    let name: KeyName = "ebb".parse().unwrap();
    Arc::new(Key::new(Algorithm::Sha256, b"not a secret at all", name, None, None).unwrap())
}

fn zone() -> DnsName {
    "x.test".parse().unwrap()
}

/// A server for one question: what it says to it, in bytes as they are sent.
fn says(answer: impl FnOnce(Vec<u8>, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut question).unwrap();
        answer(question, &mut client);
    });
    at
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The right answer to a question for the zone's addresses.
fn right(question: &[u8], change: impl FnOnce(&mut domain::base::header::Header)) -> AdditionalBuilder<Vec<u8>> {
    let question = Message::from_octets(question).unwrap();
    let mut answer = MessageBuilder::new_vec().start_answer(&question, Rcode::NOERROR).unwrap();
    answer.header_mut().set_aa(true);
    change(answer.header_mut());
    for last in [1, 2] {
        answer.push((zone(), Class::IN, 300, A::from_octets(192, 0, 2, last))).unwrap();
    }
    answer.additional()
}

fn asked(at: String, key: Option<Arc<Key>>, limit: Duration) -> Result<Set, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let peer = Peer { at, key };
    runtime.block_on(async { peer.set(&zone(), Kind::A, Until::after(limit)).await })
}

/// Long, for a machine that is busy: what does not end by itself never does.
const LONG: Duration = Duration::from_secs(60);

fn told(answer: impl FnOnce(Vec<u8>) -> Vec<u8> + Send + 'static) -> Result<Set, Error> {
    asked(says(move |question, client| drop(client.write_all(&answer(question)))), None, LONG)
}

#[test]
fn a_right_answer_is_read() {
    let set = told(|question| framed(&right(&question, |_| {}).finish())).unwrap();
    assert_eq!((set.ttl, set.values.len()), (300, 2));
}

#[test]
fn nonsense_and_halves_are_errors() {
    let whole = |question: &[u8]| framed(&right(question, |_| {}).finish());
    for (answer, what) in [
        (Vec::new(), "closed"),
        (vec![0, 0], "empty"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not DNS"),
        (framed(&[0xff; 400]), "all ones"),
    ] {
        let told = told(move |_| answer);
        assert!(matches!(told, Err(Error::NotReached { .. } | Error::NotUnderstood { .. })), "{what}: {told:?}");
    }
    let half = told(move |question| whole(&question)[..40].to_vec());
    assert!(matches!(half, Err(Error::NotReached { .. })), "{half:?}");
    let endless = asked(says(|_, client| while client.write_all(&[0x55; 4096]).is_ok() {}), None, LONG);
    assert!(matches!(endless, Err(Error::NotUnderstood { .. })), "no more than one message is read: {endless:?}");
}

#[test]
fn an_answer_to_something_else_is_not_believed() {
    type Change = fn(&mut domain::base::header::Header);
    let changes: [(Change, &str); 5] = [
        (|header| header.set_id(header.id().wrapping_add(1)), "an answer to something else"),
        (|header| header.set_qr(false), "an answer to something else"),
        (|header| header.set_opcode(Opcode::UPDATE), "an answer to something else"),
        (|header| header.set_tc(true), "it is cut short"),
        (|header| header.set_aa(false), "it has no authority over x.test"),
    ];
    for (change, what) in changes {
        let error = told(move |question| framed(&right(&question, change).finish())).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let other = told(|question| {
        let mut question = right(&question, |_| {}).finish();
        question[13] = b'y';
        framed(&question)
    });
    assert!(other.unwrap_err().to_string().contains("another question"));
}

#[test]
fn one_that_is_silent_is_left_at_the_limit() {
    let at = says(|_, client| drop(client.read(&mut [0])));
    let late = asked(at, None, Duration::from_millis(50));
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    let at = says(|_, client| {
        let _ = client.write_all(&[1]);
        drop(client.read(&mut [0]));
    });
    assert!(matches!(asked(at, None, Duration::from_millis(50)), Err(Error::Late { .. })));
}

/// Answers as one who has the key, and this clock.
fn signs(question: &[u8], ahead: u64) -> Vec<u8> {
    let now = Time48::from_u64(u64::from(Time48::now()) + ahead);
    let mut message = Message::from_octets(question.to_vec()).unwrap();
    match ServerTransaction::request(&key(), &mut message, now) {
        Ok(Some(signed)) => {
            let mut answer = right(message.as_slice(), |_| {});
            signed.answer(&mut answer, now).unwrap();
            answer.finish()
        }
        Ok(None) => right(question, |_| {}).finish(),
        Err(error) => error.build_message(&message, MessageBuilder::new_vec()).unwrap().finish(),
    }
}

#[test]
fn a_signature_is_demanded_and_clocks_that_differ_are_told() {
    let signed = |ahead| {
        asked(
            says(move |question, client| drop(client.write_all(&framed(&signs(&question, ahead))))),
            Some(key()),
            LONG,
        )
    };
    assert_eq!(signed(0).unwrap().values.len(), 2);
    let error = signed(3600).unwrap_err();
    assert!(matches!(&error, Error::NotPermitted { what, .. } if what.contains("BADTIME")), "{error}");
    assert!(["3599 s", "3600 s", "3601 s"].iter().any(|apart| error.to_string().contains(apart)), "{error}");
    let at = says(|question, client| drop(client.write_all(&framed(&right(&question, |_| {}).finish()))));
    let unsigned = asked(at, Some(key()), LONG);
    assert!(matches!(&unsigned, Err(Error::NotUnderstood { what, .. }) if what.contains("signature")), "{unsigned:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_answer_is_an_error_or_a_set(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let answer = told(move |question| {
            let mut answer = right(&question, |_| {}).finish();
            for (at, with) in changes {
                let at = at.index(answer.len());
                answer[at] = with;
            }
            framed(&answer)
        });
        prop_assert!(answer.is_err() || answer.is_ok_and(|set| set.values.len() <= 2));
    }
}
