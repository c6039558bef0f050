//! The tools that people use today.

use std::process::Command;

use ebb_kernel::netns::Ns;

use crate::tool;

/// Has `nft` do something in the namespace of this thread.
pub fn nft(what: &str) -> Result<(), String> {
    tool::output(Command::new("nft").arg(what)).map(drop)
}

/// `ss` in a namespace.
pub fn ss(ns: &Ns, arguments: &[&str]) -> Command {
    let mut ss = Command::new("ss");
    ns.command(ss.args(arguments));
    ss
}
