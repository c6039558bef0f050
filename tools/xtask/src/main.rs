//! The house's own checks and its benchmark: `cargo xtask check`, `layers`, `words`, `sizes`, `bench`, `deb`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal and for CI's log")]

mod bench;
mod check;
mod deb;
mod layers;
mod report;
mod sizes;
mod source;
mod tool;
mod words;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  check [--no-tests]   fmt, clippy, layers, words, sizes, tests: one line each
  layers               who may use whom, and what may happen in which room
  words                one word for each concept (docs/words.md)
  sizes                functions of at most 70 lines, files of at most 800
  bench [PART...]      figures against ss and nft, as root: gate, overhead, dump, services
        [--big]        with 500,000 sessions too
        [--strict]     a missed target is a failure
  deb                  a Debian package, in target/
        [--binary FILE] [--out DIR] [--version V] [--quick]
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["check"] => check::all(true),
        ["check", "--no-tests"] => check::all(false),
        [name @ ("layers" | "words" | "sizes")] => check::one(name),
        ["bench", arguments @ ..] => bench::run(arguments),
        ["deb", arguments @ ..] => deb::run(arguments),
        // What the benchmark starts: see there.
        ["bench-part", arguments @ ..] => return bench::play(arguments),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: failed to {error}");
        ExitCode::from(2)
    })
}
