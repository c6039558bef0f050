use super::*;

/// A small generator (xorshift): the same "random" bytes in every run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

#[test]
fn attributes_come_back_as_they_went() {
    let mut request = Request::new(7, ACK);
    request.raw(&[1, 0, 0, 0]).attr_str(1, "name").attr_be32(2, 5).attr_u8(3, 9);
    request.nest(4 | NESTED, |r| {
        r.attr_be64(1, 6).nest(2, |r| _ = r.attr_u32(1, 7)).attr_u16(3, 8);
    });
    let bytes = request.sealed(42, 0);
    let mut messages = Messages::new(&bytes);
    let message = messages.next().unwrap();
    assert!(messages.next().is_none() && !messages.is_malformed());
    assert_eq!((message.kind, message.flags, message.sequence, message.body[0]), (7, REQUEST | ACK, 42, 1));
    let attributes = message.attributes(4);
    assert_eq!(attributes.clone().count(), 4);
    assert_eq!(attributes.get(1).unwrap().str(), Some("name"));
    assert_eq!(attributes.get(2).unwrap().be32(), Some(5));
    assert_eq!(attributes.get(3).unwrap().data, [9]);
    let nested = attributes.get(4).unwrap().nested();
    assert_eq!(nested.get(1).unwrap().be64(), Some(6));
    assert_eq!(nested.get(2).unwrap().nested().get(1).unwrap().u32(), Some(7));
    assert!(attributes.get(5).is_none());
}

#[test]
fn malformed_input_ends_the_reading() {
    // Length 0, shorter than a header, longer than the rest, cut header.
    for bytes in [&[0, 0, 1, 0][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2, 3], &[5, 0], &[]] {
        assert_eq!(Attributes::new(bytes).count(), 0, "{bytes:?}");
    }
    // Without its padding the last one is still whole.
    assert_eq!(Attributes::new(&[5, 0, 1, 0, 7]).next(), Some(Attribute { kind: 1, data: &[7] }));
    let mut cut = Messages::new(&[200, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(cut.next().is_none() && cut.is_malformed());
    assert!(Messages::new(&[0; 16]).next().is_none());
    assert!(Messages::new(&[0xff; 40]).next().is_none());
}

/// Walks through everything as deep as it goes.
fn walk(attributes: Attributes<'_>, depth: u32) -> usize {
    let each = |a: Attribute<'_>| {
        let _ = (a.u8(), a.u32(), a.be32(), a.u64(), a.be64(), a.str());
        1 + if depth > 0 { walk(a.nested(), depth - 1) } else { 0 }
    };
    attributes.map(each).sum()
}

#[test]
fn no_bytes_make_the_readers_panic_or_run_for_ever() {
    let mut request = Request::new(2, 0x300);
    request.raw(&[0; 20]).nest(1, |r| _ = r.attr_str(1, "x").nest(2, |r| _ = r.attr_be64(1, 1)));
    let good = request.sealed(1, 0);
    for seed in 0..3_000 {
        let mut random = noise(seed * 7919 + 1);
        // Half of them noise, half good messages with a few bytes changed.
        let mut bytes: Vec<u8> = if seed % 2 == 0 {
            let length = usize::from(random.next().unwrap());
            random.by_ref().take(length).collect()
        } else {
            good.clone()
        };
        for _ in 0..seed % 4 {
            if let (false, Some(at), Some(byte)) = (bytes.is_empty(), random.next(), random.next()) {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
        }
        for message in Messages::new(&bytes) {
            let _ = message.error();
            for skip in [0, 4, 72, 1000] {
                walk(message.attributes(skip), 5);
            }
        }
        walk(Attributes::new(&bytes), 5);
        let message = Message { kind: 0, flags: 0, sequence: 0, port: 0, body: &bytes };
        let _ = (crate::diag::Row::parse(&message, 6), crate::diag::Row::parse_mptcp(&message));
        crate::gate::fuzzed(&message);
    }
}

#[test]
fn a_refusal_names_the_operation_and_the_socket_stays_usable() {
    let mut socket = Socket::open(libc::NETLINK_ROUTE).unwrap();
    let links = || {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.raw(&[0; 16]);
        request
    };
    let error = socket.request("find a link without a name", links(), |_| {}).unwrap_err();
    assert_eq!(error.operation(), "find a link without a name");
    assert!(error.errno().is_some());
    assert!(error.to_string().starts_with("find a link without a name"), "{error}");
    let mut count = 0;
    socket.dump("list links", links(), |_| count += 1).unwrap();
    assert!(count > 0);
}

#[test]
fn unknown_protocol_is_an_error() {
    let error = Socket::open(31).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EPROTONOSUPPORT));
    assert!(!error.is_permission());
}
