//! Without the kernel: rules, elements and back.

use super::*;
use crate::gate::Except;
use crate::gate::elements::Placed;

fn except(from: &str, prefix: u8, door: Door) -> Except {
    Except { from: (from.parse().unwrap(), prefix), door }
}

#[test]
fn rules_that_mean_the_same_have_one_form() {
    let mut rules = shut([
        tcp(addr("0.0.0.0"), 1),
        tcp(addr("::"), 2),
        tcp(addr("::ffff:10.0.0.1"), 3),
        tcp(Reach::Forward("::ffff:10.0.0.2".parse().unwrap()), 4),
        udp(Reach::Any4, 5),
    ]);
    let until = Instant::now();
    rules.learn = [(udp(addr("0.0.0.0"), 5), until), (udp(Reach::Any6, 6), until)].into();
    rules.open.insert(("::ffff:10.0.0.3".parse().unwrap(), 3));
    let normal = rules.normal();
    let expected = [
        tcp(Reach::Any4, 1),
        tcp(Reach::Any, 2),
        tcp(addr("10.0.0.1"), 3),
        tcp(Reach::Forward("10.0.0.2".parse().unwrap()), 4),
        udp(Reach::Any4, 5),
        udp(Reach::Any6, 6),
    ];
    assert_eq!(normal.shut, expected.into());
    assert_eq!(normal.learn, [(udp(Reach::Any4, 5), until), (udp(Reach::Any6, 6), until)].into());
    assert_eq!(normal.open, [("10.0.0.3".parse().unwrap(), 3)].into());
    assert_eq!(normal.normal(), normal);
    assert_eq!(Placed::of(&normal).rules(), normal);
}

#[test]
fn exceptions_have_one_form() {
    let door = tcp(Reach::Any, 80);
    let one = |given: Except| Rules { except: [given].into(), ..shut([door]) }.normal().except;
    assert_eq!(one(except("10.1.2.3", 8, door)), [except("10.0.0.0", 8, door)].into());
    assert_eq!(one(except("10.1.2.3", 200, door)), [except("10.1.2.3", 32, door)].into());
    assert_eq!(one(except("10.1.2.3", 0, door)), [except("0.0.0.0", 0, door)].into());
    assert_eq!(one(except("::ffff:10.1.2.3", 120, door)), [except("10.1.2.0", 24, door)].into());
    assert_eq!(one(except("2001:db8::1", 33, door)), [except("2001:db8::", 33, door)].into());
    assert_eq!(one(except("::1", 128, tcp(Reach::Any4, 80))), [].into());
    assert_eq!(one(except("10.0.0.1", 32, tcp(addr("::1"), 80))), [].into());
}

#[test]
fn a_wide_exception_takes_the_narrow_ones_in() {
    let (any, one, other) = (tcp(Reach::Any4, 80), tcp(addr("10.0.0.1"), 80), tcp(Reach::Any4, 81));
    let mut rules = shut([any, one, other]);
    rules.except = [
        except("10.0.0.0", 8, any),
        except("10.1.0.0", 16, any),
        except("10.1.0.0", 16, one),
        except("10.1.0.0", 16, other),
        except("0.0.0.0", 0, udp(Reach::Any4, 80)),
        // Neither covers the other: they cross.
        except("11.0.0.0", 8, one),
        except("11.1.0.0", 16, any),
    ]
    .into();
    let kept = rules.normal().except;
    let expected = [
        except("10.0.0.0", 8, any),
        except("10.1.0.0", 16, other),
        except("0.0.0.0", 0, udp(Reach::Any4, 80)),
        except("11.0.0.0", 8, one),
        except("11.1.0.0", 16, any),
    ];
    assert_eq!(kept, expected.into());
    // The kernel takes what is left, in any order of arrival.
    crate::testnet::in_new_netns(move || {
        let mut gate = gate();
        let all = rules.normal();
        gate.apply(&rules).unwrap();
        for except in &all.except {
            let mut fewer = rules.clone();
            fewer.except.remove(except);
            gate.apply(&fewer).unwrap();
            assert_eq!(gate.seen().unwrap().unwrap().rules, fewer.normal());
            gate.apply(&rules).unwrap();
        }
        assert_eq!(gate.seen().unwrap().unwrap().rules, all);
    });
}

#[test]
fn names_of_tables() {
    for name in ["", "1a", "a b", "a\0", "a;b", &"x".repeat(200)] {
        assert!(Gate::open(name).is_err(), "{name:?}");
    }
}
