//! What the helper program does: `exact-part PART ORDERS`, told and asked by lines on its standard input, which it answers
//! with one line of JSON each. It ends with its standard input.

mod crowd;
mod flows;
mod knock;
mod serve;
mod sockets;

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a request, and of an echo.
pub(crate) const REQUEST: usize = 16;
/// Bytes of an answer: more than fits into one segment.
pub(crate) const ANSWER: usize = 16 * 1024;
/// First byte of a request to have it echoed, and to go on.
pub(crate) const ECHO: u8 = b'E';
/// First byte of a request for an answer, after which the server closes.
pub(crate) const LONG: u8 = b'A';
/// First byte of a request to have it echoed, after which the server closes.
pub(crate) const ONCE: u8 = b'Q';
/// First byte of a datagram that is not answered.
pub(crate) const SILENT: u8 = b'S';

/// Runs the part that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let [_, part, orders] = words.as_slice() else { return ExitCode::from(2) };
    match part.as_str() {
        "serve" => serve::run(&understood(orders)),
        "crowd" => crowd::run(understood(orders)),
        "flows" => flows::run(&understood(orders)),
        "knock" => knock::run(&understood(orders)),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn understood<T: DeserializeOwned>(orders: &str) -> T {
    crate::must("understand the orders", serde_json::from_str(orders))
}

/// Says one line.
pub(crate) fn say(what: &impl Serialize) {
    let line = crate::must("write an answer", serde_json::to_string(what));
    // Nobody listens: then the end of the standard input follows.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Byte number `index` of an answer.
pub(crate) const fn pattern(index: usize) -> u8 {
    (index % 251) as u8
}

/// Lines from the standard input, as they come.
#[derive(Default)]
pub(crate) struct Orders {
    text: Vec<u8>,
}

impl Orders {
    /// Reads what is there; none at its end.
    pub(crate) fn read(&mut self) -> Option<Vec<String>> {
        let mut piece = [0; 4096];
        let count = rustix::io::read(std::io::stdin().as_fd(), &mut piece).ok()?;
        if count == 0 {
            return None;
        }
        self.text.extend_from_slice(&piece[..count]);
        let mut lines = Vec::new();
        while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.text.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim().to_owned());
        }
        Some(lines)
    }
}
