//! `ebb try`: the trial, told step by step.

use std::io::Write;
use std::path::{Path, PathBuf};

use ebb_model::printable;
use ebb_trial::{Back, Ended, Event, Fault, Options, Report, Role, Sabotage, Step, Tally};

use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::words::{BAD, GOOD, STRONG, duration, many, paint};

/// `ebb try`
#[derive(Debug, clap::Args)]
pub struct TryArgs {
    /// Sessions that are live when the drain begins.
    #[arg(long, value_name = "N", default_value_t = Options::SESSIONS,
        value_parser = clap::value_parser!(u32).range(2..=i64::from(Options::MOST_SESSIONS)))]
    pub sessions: u32,
    /// Length of the longest session; the drain takes a little longer than that.
    #[arg(long, value_name = "SECONDS", default_value_t = Options::SECONDS,
        value_parser = clap::value_parser!(u32).range(i64::from(Options::LEAST_SECONDS)..=i64::from(Options::SECONDS)))]
    pub seconds: u32,
    /// What a process of the trial does; not for people.
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Where the trial has its files; not for people.
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    /// Lets something go wrong, to see that the figures can fail.
    #[arg(long, hide = true)]
    sabotage: Option<Sabotage>,
}

/// Runs a trial, or plays a role in one. Must be called on the main thread while it is the only one.
///
/// # Errors
/// [`Problem::Trial`] when there was no trial; a trial that fails is no error, but has its exit code.
pub fn run(args: &TryArgs, json: bool) -> Result<Exit, Problem> {
    let colour = match anstream::ColorChoice::global() {
        anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => Some(true),
        anstream::ColorChoice::Never => Some(false),
        anstream::ColorChoice::Auto => None,
    };
    let options = Options { sessions: args.sessions, seconds: args.seconds, json, colour, sabotage: args.sabotage };
    match args.role {
        None => begin(&options),
        Some(Role::Stage) => play(&options, args),
        Some(Role::Chat) => Ok(ebb_trial::serve().map(|()| Exit::Done)?),
        Some(Role::Clients) => Ok(ebb_trial::clients(&options).map(|()| Exit::Done)?),
        Some(Role::Nothing) => Ok(Exit::Done),
    }
}

fn begin(options: &Options) -> Result<Exit, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::Start)?;
    let word = match runtime.block_on(ebb_trial::run(options))? {
        Ended::Stage(code) => return Ok(of_stage(code)),
        Ended::Interrupted => "interrupted; nothing of the trial is left".to_owned(),
        Ended::TooLong => "the trial was not over after 60 s and was ended; nothing of it is left".to_owned(),
        Ended::Killed(signal) => format!("the trial was killed by signal {signal}; nothing of it is left"),
    };
    // Nobody may be left to read it.
    let _ = writeln!(anstream::stderr(), "\n{} {word}", paint(BAD, "error:"));
    Ok(Exit::Failed)
}

/// The stage's own exit code, passed on.
fn of_stage(code: u8) -> Exit {
    [Exit::Done, Exit::Usage, Exit::Unsupported].into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::Failed)
}

fn play(options: &Options, args: &TryArgs) -> Result<Exit, Problem> {
    let mut tell = |event: Event| say(options.json, &story(&event));
    let dir = args.dir.as_deref().unwrap_or(Path::new(""));
    let report = match ebb_trial::stage(options, dir, &mut tell) {
        Ok(report) => report,
        // Who began it has left, and told why if there was time: nothing more to say to anybody.
        Err(ebb_trial::Error::Left { .. }) => return Ok(Exit::Failed),
        Err(error) => return Err(error.into()),
    };
    if options.json {
        writeln!(anstream::stdout(), "{}", figures_json(&report)).map_err(Problem::Output)?;
    } else {
        say(false, &figures(&report));
    }
    Ok(exit_of(&report))
}

fn exit_of(report: &Report) -> Exit {
    if report.ran.iter().any(|ran| ran.code == Some(Exit::Unsupported.code().into())) {
        Exit::Unsupported
    } else if report.faults().is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    }
}

/// The story is a result, unless only figures are wanted.
fn say(json: bool, text: &str) {
    // A reader who left does not end the trial: it ends by itself soon.
    let _ = if json {
        anstream::stderr().write_all(text.as_bytes())
    } else {
        let mut out = anstream::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
}

/// What happens, in lines; empty where there is nothing to say.
fn story(event: &Event) -> String {
    match event {
        Event::Building { sessions } => format!(
            "A pool of two chat servers and their clients, in network namespaces of their own on this machine:\n\
             nothing is installed, nothing else is touched, and nothing stays. {sessions} clients connect ...\n"
        ),
        Event::Live(tally) => format!(
            "{} on server-a, {} on server-b, and ten newcomers each second; the name they use has both addresses.\n",
            many(tally.live_a, "session"),
            tally.live_b
        ),
        Event::Running { step, command } => {
            format!("\n{}\n{} {}\n", paint(STRONG, before(*step)), paint(STRONG, "server-a$"), printable(command))
        }
        Event::Ran { ran, tally } if ran.step == Step::Drain => after_drain(ran.code, tally),
        Event::Ran { ran, .. } if ran.code == Some(0) => String::new(),
        Event::Ran { ran, .. } => went_wrong(&ran.command, ran.code),
        Event::Back(Back { to_a, to_b, .. }) if *to_a == 0 || *to_b == 0 => {
            format!("{} newcomers did not come back: {to_a} on server-a, {to_b} on server-b\n", paint(BAD, "error:"))
        }
        Event::Back(Back { to_a, to_b, seconds }) => format!(
            "Newcomers are on both servers again: {to_a} on server-a, {to_b} on server-b, {} later.\n",
            duration(*seconds)
        ),
        Event::Closing => "\nAll clients say goodbye.\n".to_owned(),
        _ => String::new(),
    }
}

fn before(step: Step) -> &'static str {
    match step {
        Step::Services => "What runs on server-a:",
        Step::Drain => {
            "server-a needs maintenance. Newcomers are refused there from now on, and go to server-b; \
             who is there may stay to the end:"
        }
        Step::Status => "Nobody is left; server-a could be rebooted now. How ebb sees it:",
        Step::Resume => "The work is done; server-a may have newcomers again:",
    }
}

fn after_drain(code: Option<i32>, tally: &Tally) -> String {
    let mut text = if code == Some(0) { String::new() } else { went_wrong("ebb drain", code) };
    text.push_str(&format!(
        "Meanwhile {} moved on to server-b. Sessions harmed: {}.\n",
        many(tally.moved, "newcomer"),
        tally.harmed
    ));
    text
}

fn went_wrong(command: &str, code: Option<i32>) -> String {
    let how = code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with exit code {code}"));
    format!("{} {} {how}\n", paint(BAD, "error:"), printable(command))
}

/// The figures, for people.
fn figures(report: &Report) -> String {
    let tally = &report.tally;
    let zero = |count: u64| paint(if count == 0 { GOOD } else { BAD }, &count.to_string());
    let entered = tally.first + tally.to_a + tally.to_b;
    let slowest = f64::from(u32::try_from(tally.slowest_us).unwrap_or(u32::MAX)) / 1000.0;
    let who = if report.unprivileged { "in a user namespace, without any rights" } else { "in network namespaces" };
    let back = report.back.map_or_else(
        || "not tried".to_owned(),
        |back| format!("{}, and {} on server-b", many(back.to_a, "newcomer"), back.to_b),
    );
    let rows = [
        ("sessions harmed", format!("{} of {entered}", zero(tally.harmed))),
        ("newcomers failed", format!("{} of {}", zero(tally.failed), tally.newcomers)),
        ("newcomers moved", format!("{}; the slowest was in after {slowest:.1} ms", tally.moved)),
        ("refused", format!("{} by the gate", tally.refused)),
        (
            "time to drain",
            format!(
                "{}, {} on server-a when it began",
                duration(report.drain_seconds()),
                many(report.at_drain_a, "session")
            ),
        ),
        ("served", format!("{}, {}", many(tally.served, "session"), many(tally.lines, "line"))),
        ("back on server-a", back),
        (
            "run",
            format!(
                "as {}, {who}, on Linux {}, in {}",
                printable(&report.user),
                printable(&report.kernel),
                duration(report.seconds)
            ),
        ),
    ];
    let mut text = String::from("\n");
    for (name, value) in rows {
        text.push_str(&format!("  {name:<18}{value}\n"));
    }
    for harm in &report.harms {
        text.push_str(&format!("  {} {}\n", paint(BAD, "harmed:"), printable(harm)));
    }
    text.push('\n');
    let faults = report.faults();
    if faults.is_empty() {
        text.push_str(&paint(GOOD, "Nobody was dropped, and nobody was turned away."));
        text.push_str(" On a server of yours: `ebb services`, then `ebb drain SERVICE --dry-run`.\n");
    }
    for fault in faults {
        text.push_str(&format!("{} {}\n", paint(BAD, "error:"), fault_text(fault)));
    }
    text
}

fn fault_text(fault: Fault) -> String {
    match fault {
        Fault::Harmed(count) => format!("{} harmed", many(count, "session")),
        Fault::Failed(count) => format!("{} found no server", many(count, "client")),
        Fault::NobodyMoved => "nobody was moved: the gate was never shut, and the rest proves nothing".to_owned(),
        Fault::Command(step) => format!("`ebb {}` did not end well", name_of(step)),
        Fault::NobodyBack => "newcomers were not on both servers again".to_owned(),
        _ => "something did not go as it must".to_owned(),
    }
}

fn name_of(step: Step) -> &'static str {
    match step {
        Step::Services => "services",
        Step::Drain => "drain",
        Step::Status => "status",
        Step::Resume => "resume",
    }
}

/// The figures, for programs: one line.
fn figures_json(report: &Report) -> serde_json::Value {
    let tally = &report.tally;
    let code = |step| report.ran.iter().find(|ran| ran.step == step).and_then(|ran| ran.code);
    serde_json::json!({
        "type": "trial",
        "ok": report.faults().is_empty(),
        "faults": report.faults().into_iter().map(fault_text).collect::<Vec<_>>(),
        "harmed": tally.harmed,
        "failed": tally.failed,
        "moved": tally.moved,
        "refused": tally.refused,
        "newcomers": tally.newcomers,
        "newcomers_to_a": tally.to_a,
        "newcomers_to_b": tally.to_b,
        "slowest_newcomer_ms": f64::from(u32::try_from(tally.slowest_us).unwrap_or(u32::MAX)) / 1000.0,
        "sessions_at_drain": report.at_drain,
        "sessions_at_drain_a": report.at_drain_a,
        "sessions_served": tally.served,
        "lines_answered": tally.lines,
        "drain_seconds": report.drain_seconds(),
        "drain_exit_code": code(Step::Drain),
        "resume_exit_code": code(Step::Resume),
        "back_on_a": report.back.map(|back| back.to_a),
        "back_on_b": report.back.map(|back| back.to_b),
        "harms": report.harms,
        "kernel": report.kernel,
        "user": report.user,
        "uid": report.uid,
        "unprivileged": report.unprivileged,
        "seconds": report.seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_trial::Ran;

    fn report() -> Report {
        let ran = |step, seconds| Ran { step, command: String::new(), code: Some(0), seconds };
        Report {
            tally: Tally {
                first: 300,
                served: 671,
                moved: 176,
                refused: 176,
                newcomers: 371,
                to_a: 20,
                to_b: 351,
                ..Tally::default()
            },
            at_drain: 305,
            at_drain_a: 153,
            ran: vec![ran(Step::Services, 0.1), ran(Step::Drain, 37.2), ran(Step::Status, 0.1), ran(Step::Resume, 0.1)],
            back: Some(Back { to_a: 5, to_b: 7, seconds: 1.1 }),
            harms: Vec::new(),
            kernel: "6.1.0".to_owned(),
            user: "ada".to_owned(),
            uid: 1000,
            unprivileged: true,
            seconds: 43.0,
        }
    }

    #[test]
    fn a_good_trial_says_so_and_exits_well() {
        let text = anstream::adapter::strip_str(&figures(&report())).to_string();
        for part in
            ["sessions harmed   0 of 671", "newcomers failed  0 of 371", "as ada", "Linux 6.1.0", "Nobody was dropped"]
        {
            assert!(text.contains(part), "lacks {part:?}: {text}");
        }
        assert_eq!(exit_of(&report()), Exit::Done);
        assert_eq!(figures_json(&report())["ok"], true);
    }

    #[test]
    fn a_bad_trial_says_what_and_exits_badly() {
        let mut bad = report();
        bad.tally.harmed = 2;
        bad.harms = vec!["session 7 on server-a, after 3 lines: the server closed it".to_owned()];
        let text = anstream::adapter::strip_str(&figures(&bad)).to_string();
        assert!(text.contains("harmed: session 7") && text.contains("error: 2 sessions harmed"), "{text}");
        assert!(!text.contains("Nobody was dropped"), "{text}");
        assert_eq!(exit_of(&bad), Exit::Failed);
        assert_eq!((&figures_json(&bad)["ok"], &figures_json(&bad)["harmed"]), (&false.into(), &2.into()));
        bad.ran[1].code = Some(9);
        assert_eq!(exit_of(&bad), Exit::Unsupported, "no gate can be made here: that is the cause of all else");
    }

    #[test]
    fn the_code_of_the_stage_is_passed_on() {
        assert_eq!(
            [0, 1, 2, 9, 101].map(of_stage),
            [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unsupported, Exit::Failed]
        );
    }
}
