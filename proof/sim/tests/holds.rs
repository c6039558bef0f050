//! 10,000 random interleavings of five requesters, a server and its services, ends, clocks, kills and reboots: after each
//! thing that happens the holds on disk are those that are wished, no gate is open while any hold stands, and after the
//! last release nothing is left.

use std::path::{Path, PathBuf};

use ebb_sim::{Dice, World};

const INTERLEAVINGS: u64 = 10_000;
const STEPS: u64 = 20;
/// Side by side; each has a directory of its own.
const LANES: u64 = 4;

/// In memory where that can be had: what is asked for is that the files are right, not that a disk turns.
fn dir(lane: u64) -> PathBuf {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    base.join(format!("ebb-sim-{}-{lane}", std::process::id()))
}

#[test]
fn in_10_000_interleavings_no_gate_is_open_while_a_hold_stands_and_nothing_is_left() {
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            std::thread::spawn(move || {
                for seed in (lane..INTERLEAVINGS).step_by(LANES as usize) {
                    let mut dice = Dice::new(seed);
                    let mut world = World::new(dir(lane));
                    for _ in 0..dice.below(STEPS) + 1 {
                        world.step(&mut dice);
                    }
                    world.all_release();
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.join().expect("a lane of interleavings");
    }
}
