//! A server without a kernel: the real store and the real decisions about holds, a gate that is a set of doors, and clocks
//! that are told what time it is. Beside it a reference that knows in a few lines what must be.

mod dice;
mod reference;
mod world;

pub use dice::Dice;
pub use world::World;
