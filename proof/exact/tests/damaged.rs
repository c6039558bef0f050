//! Damage to what is kept on disk after a hold was acknowledged: the gate stays shut or there is an alarm, and `ebb holds`
//! lists the hold or says which file is damaged, and what to do.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use ebb_exact::{Daemon, Ebb, Listen, Met, Net, ServeSpec, Watched, meet, server4, told};

const LIMIT: Duration = Duration::from_secs(30);
const DB: &str = "ebb.db";
const COPY: &str = "held.json";

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

/// Bytes without order, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("what is to be damaged");
    how(&mut bytes);
    fs::write(path, bytes).expect("damage");
}

fn read_store(dir: &Path) -> Vec<u8> {
    fs::read(dir.join(DB)).expect("the store")
}

fn overwrite(path: &Path, from: usize, count: usize) {
    change(path, |bytes| {
        let to = (from + count).min(bytes.len());
        bytes[from..to].copy_from_slice(&noise(to - from));
    });
}

fn cut(path: &Path, to: usize) {
    change(path, |bytes| bytes.truncate(to));
}

/// The page size, as the file's own header has it.
fn page(path: &Path) -> usize {
    let bytes = fs::read(path).expect("the store");
    usize::from(u16::from_be_bytes([bytes[16], bytes[17]]))
}

/// Where a text begins last: in the page that is in use, whatever older ones there are.
fn place_of(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).rposition(|window| window == text).expect("the text in the store")
}

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 24] = [
    ("the store empty", |dir| cut(&dir.join(DB), 0)),
    ("the store cut in its header", |dir| cut(&dir.join(DB), 60)),
    ("the store cut after its header", |dir| cut(&dir.join(DB), 100)),
    ("the store cut after its first page", |dir| cut(&dir.join(DB), page(&dir.join(DB)))),
    ("the store cut in its middle", |dir| change(&dir.join(DB), |bytes| bytes.truncate(bytes.len() / 2))),
    ("the store without its last page", |dir| {
        let page = page(&dir.join(DB));
        change(&dir.join(DB), |bytes| bytes.truncate(bytes.len() - page));
    }),
    ("the store all noise", |dir| overwrite(&dir.join(DB), 0, usize::MAX / 2)),
    ("the store's header noise", |dir| overwrite(&dir.join(DB), 0, 100)),
    ("the store's tables noise", |dir| overwrite(&dir.join(DB), 100, page(&dir.join(DB)) - 100)),
    ("all pages but the first noise", |dir| overwrite(&dir.join(DB), page(&dir.join(DB)), usize::MAX / 2)),
    ("the page of the hold noise", |dir| {
        let page = page(&dir.join(DB));
        overwrite(&dir.join(DB), place_of(&read_store(dir), b"exact-partoperator{") / page * page, page);
    }),
    ("the page of the hold without cells", |dir| {
        let page = page(&dir.join(DB));
        change(&dir.join(DB), |bytes| {
            let at = place_of(bytes, b"exact-partoperator{") / page * page;
            bytes[at + 3..at + 5].fill(0);
        });
    }),
    ("each page's first bytes", |dir| {
        let page = page(&dir.join(DB));
        change(&dir.join(DB), |bytes| bytes.chunks_mut(page).skip(1).for_each(|page| page[..8].fill(0xff)));
    }),
    ("the words of the hold", |dir| {
        change(&dir.join(DB), |bytes| {
            let at = place_of(bytes, b"exact-partoperator{") + 18;
            bytes[at..at + 12].copy_from_slice(b"############");
        });
    }),
    ("a text instead of the store", |dir| fs::write(dir.join(DB), "no database at all\n").expect("damage")),
    ("a directory instead of the store", |dir| {
        fs::remove_file(dir.join(DB)).and_then(|()| fs::create_dir(dir.join(DB))).expect("damage");
    }),
    ("no store", |dir| fs::remove_file(dir.join(DB)).expect("damage")),
    ("a store of a newer ebb", |dir| change(&dir.join(DB), |bytes| bytes[60..64].copy_from_slice(&[0, 0, 0, 99]))),
    ("a journal of noise", |dir| fs::write(dir.join("ebb.db-journal"), noise(9000)).expect("damage")),
    ("a log of noise", |dir| {
        fs::write(dir.join("ebb.db-wal"), noise(9000)).expect("damage");
        fs::write(dir.join("ebb.db-shm"), noise(32768)).expect("damage");
    }),
    ("a header that asks for a log, which is noise", |dir| {
        change(&dir.join(DB), |bytes| bytes[18..20].copy_from_slice(&[2, 2]));
        fs::write(dir.join("ebb.db-wal"), noise(9000)).expect("damage");
    }),
    ("the copy noise", |dir| overwrite(&dir.join(COPY), 0, usize::MAX / 2)),
    ("store and copy noise", |dir| {
        overwrite(&dir.join(DB), 0, usize::MAX / 2);
        overwrite(&dir.join(COPY), 0, usize::MAX / 2);
    }),
    ("the store empty and the copy noise", |dir| {
        cut(&dir.join(DB), 0);
        overwrite(&dir.join(COPY), 0, usize::MAX / 2);
    }),
];

/// An agent that serves, or has ended.
fn agent(ebb: &Ebb) -> Watched {
    let mut agent = ebb.watch(&["agent"]);
    let began = Instant::now();
    while agent.is_running() && UnixStream::connect(ebb.socket()).is_err() {
        assert!(began.elapsed() < LIMIT, "no agent");
        std::thread::sleep(Duration::from_millis(10));
    }
    agent
}

/// A boot: the gate is gone, and shut again before anybody can come in, or there is an alarm that names a file.
fn boot(net: &Net, ebb: &Ebb, what: &str) -> bool {
    net.nft(&net.server, "delete table inet ebb");
    let restored = ebb.run(&["gate", "restore"]);
    let shut = meet(&net.client, at()) == Met::Refused;
    let names = restored.stderr.contains(DB) || restored.stderr.contains(COPY);
    assert!(shut || restored.code != Some(0) && names, "{what}: open without an alarm: {restored:?}");
    shut
}

/// What it came to: the hold is listed, or a file is named.
fn damaged((what, damage): Damage) -> &'static str {
    let Some(net) = Net::new() else { return "skipped" };
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let ebb = Ebb::on(&net);
    let mut first = agent(&ebb);
    ebb.done(&["hold", "exact-part", "--reason", "a reason with some words"]);
    first.kill();
    damage(ebb.state_dir());
    let mut second = agent(&ebb);
    let lives = second.is_running();
    assert_eq!(meet(&net.client, at()), Met::Refused, "{what}: it stays shut");
    let holds = ebb.run(&["holds"]);
    let listed = holds.all("hold").any(|hold| hold["service"] == "exact-part");
    let says = |text: &str| {
        let helps = text.contains("away") || text.contains("newer ebb") || text.contains("unable to open");
        helps && (text.contains(DB) || text.contains(COPY))
    };
    assert!(
        holds.code == Some(0) && listed || holds.code != Some(0) && says(&holds.stderr),
        "{what}: {holds:?}, agent lives: {lives}"
    );
    if !lives {
        let told = second.wait(LIMIT);
        assert!(told.code == Some(1) && says(&told.stderr), "{what}: {told:?}");
    }
    let shut = boot(&net, &ebb, what);
    let third = ebb.run(&["status", "exact-part"]);
    assert!(third.code == Some(0) && shut || says(&third.stderr), "{what}: {third:?}");
    if listed {
        "still held"
    } else if shut {
        "told, and shut at boot from the copy"
    } else {
        "told"
    }
}

#[test]
fn no_damage_to_the_store_opens_a_gate_in_silence() {
    let lanes: Vec<_> = (0..3)
        .map(|lane| {
            let part = DAMAGES.into_iter().skip(lane).step_by(3);
            std::thread::spawn(move || {
                let came = part.map(|damage| (damage.0, std::panic::catch_unwind(|| damaged(damage))));
                came.collect::<Vec<_>>()
            })
        })
        .collect();
    let came: Vec<_> = lanes.into_iter().flat_map(|lane| lane.join().expect("a lane")).collect();
    for (what, how) in &came {
        told(&format!("{what}: {}", how.as_ref().unwrap_or(&"FAILED")));
    }
    assert!(came.iter().all(|(_, how)| how.is_ok()));
}
