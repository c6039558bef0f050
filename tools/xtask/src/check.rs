//! `cargo xtask check`: all parts, each with its time and result.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::report::Violation;
use crate::{layers, sizes, source, tool, words};

/// What a part came to; the text of a failure tells all.
type Outcome = Result<String, String>;

/// Runs all parts, also after one has failed.
pub fn all(with_tests: bool) -> Result<ExitCode, String> {
    let root = tool::root()?;
    let mut parts = vec!["fmt", "clippy", "layers", "words", "sizes"];
    if with_tests {
        parts.push("tests");
    }
    let mut failed = 0;
    for name in parts {
        let began = Instant::now();
        let outcome = part(name, &root);
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Ok(said) => println!("{name:<8} ok      {seconds:6.1} s  {said}"),
            Err(said) => {
                failed += 1;
                println!("{name:<8} FAILED  {seconds:6.1} s");
                println!("{}", indented(&said));
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn part(name: &str, root: &Path) -> Outcome {
    match name {
        "fmt" => cargo(root, &["fmt", "--all", "--check"]),
        "clippy" => cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        "tests" => tests(root),
        own_part => own(own_part, root),
    }
}

/// Runs one of our own parts alone.
pub fn one(name: &str) -> Result<ExitCode, String> {
    match own(name, &tool::root()?) {
        Ok(said) => {
            println!("{name}: ok, {said}");
            Ok(ExitCode::SUCCESS)
        }
        Err(said) => {
            println!("{said}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn own(name: &str, root: &Path) -> Outcome {
    let sources = source::sources(root)?;
    let violations = match name {
        "layers" => layers::check(root, &sources)?,
        "words" => words::check(root, &sources)?,
        _ => sizes::check(&sources),
    };
    if violations.is_empty() {
        return Ok(format!("{} files", sources.len()));
    }
    Err(violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("\n"))
}

fn cargo(root: &Path, arguments: &[&str]) -> Outcome {
    run(Command::new(tool::cargo()).args(arguments).current_dir(root))
}

/// All its output is kept and shown only when it fails.
fn run(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("start cargo: {error}"))?;
    if output.status.success() {
        return Ok(String::new());
    }
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(said.concat())
}

/// They take long: what they say is shown as it comes.
fn tests(root: &Path) -> Outcome {
    let nextest = cargo(root, &["nextest", "--version"]).is_ok();
    let arguments: &[&str] = if nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    let status = Command::new(tool::cargo()).args(arguments).current_dir(root).status();
    match status.map_err(|error| format!("start cargo: {error}"))? {
        status if status.success() => Ok(String::new()),
        status => Err(format!("cargo {}: {status}", arguments.join(" "))),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
