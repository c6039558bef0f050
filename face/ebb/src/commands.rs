//! One file per verb that needs more than its request; the way of all of them: connect, ask, render, exit.

pub mod end;
pub mod generate;
pub mod sessions;
pub mod try_it;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use ebb_agent::{Place, Running, StartError};
use ebb_link::{Client, Frames};
use ebb_wire::v1::{
    DrainRequest, EventsRequest, Frame, HoldRequest, RefusalKind, ReleaseRequest, Request, ResumeRequest, Which, Wish,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::args::{Common, DrainArgs, Verb};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::live::Live;
use crate::render::{self, Said, Text, View};
use crate::values::whole_seconds;

/// On a terminal the live lines are redrawn at most this often.
const REDRAW: Duration = Duration::from_millis(200);
/// How long a viewer waits for a frame before it looks whether something must be said.
const BEAT: Duration = Duration::from_millis(250);

/// Starts the agent of this command.
pub fn connect(common: &Common) -> Result<(Client, Running), Problem> {
    let place = Place { state_dir: common.state_dir.clone(), config: common.config.clone() };
    ebb_agent::start(place).map_err(|cause| Problem::Agent {
        help: matches!(cause, StartError::Config(_)).then(|| "mend the file, or name another with --config".to_owned()),
        cause: Box::new(cause),
        kind: RefusalKind::Failed,
    })
}

/// Runs a verb to its end.
///
/// # Errors
/// [`Problem`]: the face itself failed; what the agent refuses is said and has its exit code.
pub async fn run(verb: &Verb, common: &Common) -> Result<Exit, Problem> {
    match verb {
        Verb::Sessions(args) => sessions::run(args, common).await,
        Verb::End(args) => end::run(args, common).await,
        Verb::Services(args) => {
            let text: Box<dyn Text> = if args.doors {
                Box::<render::doors::Doors>::default()
            } else {
                Box::<render::services::Services>::default()
            };
            ask(Request::Services { count: !args.no_count }, common, text, None).await
        }
        Verb::Status(args) => {
            let request = Request::Status { services: args.services.clone() };
            ask(request, common, Box::<render::status::Held>::default(), None).await
        }
        Verb::Events(args) => {
            let request = EventsRequest { service: args.service.clone(), last: args.last, follow: args.follow };
            ask(Request::Events(request), common, Box::<render::events::Events>::default(), None).await
        }
        Verb::Drain(args) => drain(args, common).await,
        Verb::Resume(args) => {
            let request = ResumeRequest {
                which: Which::from(&args.which),
                requester: args.requester.clone(),
                up_within_seconds: whole_seconds(args.up_within),
                dry_run: args.dry_run,
            };
            ask(Request::Resume(request), common, Box::new(render::resume::Resume { dry_run: args.dry_run }), None)
                .await
        }
        Verb::Hold(args) => {
            let request =
                HoldRequest { which: Which::from(&args.which), wish: Wish::from(&args.wish), dry_run: args.dry_run };
            ask(Request::Hold(request), common, Box::new(render::hold::Hold { dry_run: args.dry_run }), None).await
        }
        Verb::Release(args) => {
            let request = ReleaseRequest {
                which: Which::from(&args.which),
                requester: args.requester.clone(),
                dry_run: args.dry_run,
            };
            ask(Request::Release(request), common, Box::new(render::hold::Hold { dry_run: args.dry_run }), None).await
        }
        Verb::Holds => ask(Request::Holds, common, Box::<render::holds::Holds>::default(), None).await,
        // They never come here: main runs them without a runtime.
        Verb::Try(_) | Verb::Completions { .. } | Verb::Man { .. } => Ok(Exit::Done),
    }
}

async fn drain(args: &DrainArgs, common: &Common) -> Result<Exit, Problem> {
    let request = DrainRequest {
        which: Which::from(&args.which),
        wish: Wish::from(&args.wish),
        deadline_seconds: args.deadline.map(whole_seconds),
        then: args.then.into(),
        stop: !args.no_stop,
        settle_ms: args.settle.0,
        grace_ms: args.grace.0,
        learn_seconds: whole_seconds(args.udp_learn),
        dry_run: args.dry_run,
    };
    let leaving = leaving(&args.which.services, &args.wish.requester);
    ask(Request::Drain(request), common, Box::new(render::drain::Drain), Some(leaving)).await
}

/// What Ctrl-C says.
fn leaving(services: &[String], requester: &str) -> String {
    let names = if services.is_empty() {
        "--all".to_owned()
    } else {
        services.iter().map(|name| render::words::shell_word(name)).collect::<Vec<_>>().join(" ")
    };
    let also =
        if requester == "operator" { String::new() } else { format!(" --as {}", render::words::shell_word(requester)) };
    format!(
        "\nLeft. Hold and gate stay: newcomers are still refused, nobody is stopped.\n\
         \x20 go on watching   ebb drain {names}{also}\n\
         \x20 see it           ebb status\n\
         \x20 undo             ebb resume {names}{also}"
    )
}

/// Asks, and renders every frame. `leaving` is what Ctrl-C says where leaving is not the same as ending.
async fn ask(request: Request, common: &Common, text: Box<dyn Text>, leaving: Option<String>) -> Result<Exit, Problem> {
    let (client, running) = connect(common)?;
    let mut show = Show::new(common, text);
    show.follows = matches!(&request, Request::Events(events) if events.follow);
    let frames = client.ask(request).await?;
    drop(client);
    let exit = show.all(frames, leaving.as_deref()).await;
    running.stop().await;
    exit
}

/// Writes frames as text or JSON.
struct Show {
    json: bool,
    follows: bool,
    terminal: bool,
    said: Said,
    text: Box<dyn Text>,
    live: Live,
    /// Lines of progress on the terminal now, and since when.
    drawn: usize,
    drawn_at: Option<Instant>,
}

impl Show {
    fn new(common: &Common, text: Box<dyn Text>) -> Self {
        Self {
            json: common.json,
            follows: false,
            terminal: std::io::stderr().is_terminal() && !common.json,
            said: Said { quiet: common.quiet, ..Said::default() },
            text,
            live: Live::new(Instant::now()),
            drawn: 0,
            drawn_at: None,
        }
    }

    async fn all(&mut self, mut frames: Frames, leaving: Option<&str>) -> Result<Exit, Problem> {
        let mut exit = Exit::Done;
        let mut stop = std::pin::pin!(asked_to_leave());
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = &mut stop => {
                    self.undraw();
                    self.said.even_if_quiet(leaving.unwrap_or(""));
                    self.write()?;
                    // Nothing was lost by ending a command that only looks.
                    return Ok(if leaving.is_some() { Exit::Detached } else { exit });
                }
                () = tokio::time::sleep(BEAT) => {
                    self.beat()?;
                    continue;
                }
            };
            match frame {
                None => return Err(Problem::CutShort),
                Some(Frame::Done) => break,
                Some(frame) => {
                    exit = exit.graver(Exit::of(&frame));
                    self.show(&frame)?;
                }
            }
        }
        if self.json {
            self.json_line(&Frame::Done)?;
        } else {
            self.undraw();
            self.text.end(&view(), &mut self.said);
        }
        self.write()?;
        Ok(exit)
    }

    fn show(&mut self, frame: &Frame) -> Result<(), Problem> {
        if self.json {
            return self.json_line(frame);
        }
        self.live.frame(frame, Instant::now());
        if !matches!(frame, Frame::Progress(_)) {
            self.undraw();
            self.text.frame(frame, &view(), &mut self.said);
            self.live.spoke(Instant::now());
        }
        self.beat()
    }

    /// Draws the live lines where that is possible, or says them now and then where it is not.
    fn beat(&mut self) -> Result<(), Problem> {
        let now = Instant::now();
        // Who follows events waits for nothing in particular.
        if self.json || self.said.quiet || self.follows {
            return self.write();
        }
        if self.terminal {
            if self.drawn == 0 || self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW) {
                self.undraw();
                let (columns, rows) = terminal_size::terminal_size_of(std::io::stderr())
                    .map_or((80, 24), |(columns, rows)| (usize::from(columns.0), usize::from(rows.0)));
                let lines = self.live.lines(now, columns, rows);
                self.drawn = lines.len();
                self.drawn_at = Some(now);
                lines.iter().for_each(|line| self.said.talk(line));
            }
        } else {
            let view = view();
            for line in self.live.due(now) {
                self.said.talk(&format!("{}  {line}", render::words::clock(view.now, &view)));
            }
        }
        self.write()
    }

    /// Takes the drawn lines away.
    fn undraw(&mut self) {
        if self.drawn > 0 {
            self.said.talk.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn json_line(&mut self, frame: &Frame) -> Result<(), Problem> {
        let line = serde_json::to_string(frame).map_err(|error| Problem::Output(error.into()))?;
        self.said.result(&line);
        self.said.result("\n");
        self.write()
    }

    fn write(&mut self) -> Result<(), Problem> {
        write(&mut self.said)
    }
}

/// Writes what was said: results to standard output, talk to standard error.
pub fn write(said: &mut Said) -> Result<(), Problem> {
    if !said.out.is_empty() {
        let mut out = anstream::stdout().lock();
        out.write_all(&said.out).and_then(|()| out.flush()).map_err(Problem::Output)?;
        said.out.clear();
    }
    if !said.talk.is_empty() {
        // Nobody may listen to the talk any more; the results still count.
        let mut err = anstream::stderr().lock();
        let _ = err.write_all(said.talk.as_bytes()).and_then(|()| err.flush());
        said.talk.clear();
    }
    Ok(())
}

/// The reader's surroundings.
pub fn view() -> View {
    let width = std::io::stdout().is_terminal().then(columns).flatten();
    View { zone: TimeZone::system(), now: Timestamp::now(), width }
}

fn columns() -> Option<usize> {
    terminal_size::terminal_size().map(|(terminal_size::Width(columns), _)| usize::from(columns))
}

/// Ctrl-C, or a request to end.
pub async fn asked_to_leave() {
    let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut terminated) = terminated else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// Says why the face could not do its work.
pub fn say_problem(problem: &Problem, common: &Common) {
    if problem.is_broken_pipe() {
        return;
    }
    let mut said = Said::default();
    let refusal = problem.refusal();
    if common.json {
        if let Ok(line) = serde_json::to_string(&Frame::Refused(refusal)) {
            said.result(&format!("{line}\n"));
        }
    } else {
        render::common::refused(&refusal, &mut said);
    }
    // If even that cannot be written, only the exit code is left to tell.
    let _ = write(&mut said);
}
