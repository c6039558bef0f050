//! The one way to ask: a request out, frames in, until the answer is complete or the operator leaves.

use std::time::Duration;

use ebb_link::Client;
use ebb_wire::v1::{Frame, Request};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::Text;
use crate::screen::Screen;

/// Live lines are redrawn at most this often.
const REDRAW: Duration = Duration::from_millis(200);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is complete.
    Whole(Exit),
    /// The operator left before.
    Left {
        /// A stop had begun, which nothing takes back.
        stopping: bool,
    },
}

/// Whether the operator can leave while the agent works on, and how that is heard.
#[derive(Debug)]
pub struct Leave(Option<(Signal, Signal)>);

impl Leave {
    /// Not: a signal ends the process, and nothing is lost by that.
    pub const NEVER: Self = Self(None);

    /// By Ctrl-C or SIGTERM. A lost terminal (SIGHUP) ends the process as ever: handling it would undo `nohup`.
    ///
    /// # Errors
    /// [`Problem::Start`]
    pub fn by_signal() -> Result<Self, Problem> {
        let hear = |kind| signal(kind).map_err(Problem::Start);
        Ok(Self(Some((hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?))))
    }

    /// Waits for so long, or until the operator leaves: then it is true. A signal is heard from when this was made, between
    /// two answers too: the process would else not end with a system that goes down.
    pub async fn within(&mut self, pause: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.asked() => true,
            () = tokio::time::sleep(pause) => false,
        }
    }

    async fn asked(&mut self) {
        match &mut self.0 {
            None => std::future::pending().await,
            Some((interrupt, terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
        }
    }
}

/// Asks, and shows the answer frame by frame.
///
/// # Errors
/// [`Problem`]
pub async fn ask(
    client: &Client,
    request: Request,
    text: &mut dyn Text,
    screen: &mut Screen,
    leave: &mut Leave,
) -> Result<Answer, Problem> {
    screen.begin();
    let mut frames = client.ask(request).await?;
    let mut exit = Exit::Done;
    let mut stopping = std::collections::BTreeSet::new();
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // In this order: what has been said is written when no frame waits, not after each.
        tokio::select! {
            biased;
            () = leave.asked() => {
                screen.leave()?;
                return Ok(Answer::Left { stopping: !stopping.is_empty() });
            }
            frame = frames.next() => match frame {
                None => return Err(Problem::CutShort),
                Some(Frame::Done) => {
                    screen.end(text)?;
                    return Ok(Answer::Whole(exit));
                }
                Some(frame) => {
                    exit = exit.graver(Exit::of(&frame));
                    match &frame {
                        Frame::Progress(progress) if progress.doing == "stopping" => {
                            stopping.insert(progress.service.clone());
                        }
                        Frame::Drained(report) => drop(stopping.remove(&report.service)),
                        _ => {}
                    }
                    screen.frame(&frame, text)?;
                }
            },
            () = std::future::ready(()), if screen.has_more() => screen.flush()?,
            _ = redraw.tick() => screen.tick()?,
        }
    }
}

/// Asks where leaving needs no words.
///
/// # Errors
/// [`Problem`]
pub async fn look(
    client: &Client,
    request: Request,
    text: &mut dyn Text,
    screen: &mut Screen,
) -> Result<Exit, Problem> {
    let mut never = Leave::NEVER;
    match ask(client, request, text, screen, &mut never).await? {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left { .. } => Ok(Exit::Detached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::render::drain::Drain;
    use crate::render::sessions::Sessions;
    use crate::screen::test::{broken, screen};
    use ebb_link::{Peer, in_process};
    use ebb_wire::v1::{DrainReport, Outcome, RefusalKind};

    /// Asks an agent that answers with these frames, and then ends.
    async fn answered(
        frames: Vec<Frame>,
        text: &mut dyn Text,
        screen: &mut Screen,
        mut leave: Leave,
    ) -> Result<Answer, Problem> {
        let (client, mut server) = in_process(Peer { uid: 0, name: "root".to_owned(), behalf: None });
        let agent = async {
            let call = server.next().await.unwrap();
            for frame in frames {
                if !call.reply.send(frame).await {
                    return;
                }
            }
        };
        let (answer, ()) = tokio::join!(ask(&client, Request::Holds, text, screen, &mut leave), agent);
        answer
    }

    fn with_done(mut frames: Vec<Frame>) -> Vec<Frame> {
        frames.push(Frame::Done);
        frames
    }

    #[tokio::test]
    async fn the_gravest_frame_fixes_the_code() {
        let late = DrainReport { outcome: Outcome::DeadlineReached, ..fixture::report() };
        let frames = with_done(vec![Frame::Drained(late), Frame::Drained(fixture::report())]);
        let (mut screen, out, _) = screen(false, false, false);
        let answer = answered(frames, &mut Drain, &mut screen, Leave::NEVER).await.unwrap();
        assert_eq!(answer, Answer::Whole(Exit::DeadlineReached));
        let text = fixture::plain(&out.text());
        assert!(text.contains("nginx: deadline reached") && text.contains("nginx: drained and stopped"), "{text}");
    }

    #[tokio::test]
    async fn results_and_talk_go_their_own_ways() {
        let frames = with_done(vec![
            Frame::Event(fixture::event()),
            Frame::Progress(fixture::progress()),
            Frame::Drained(fixture::report()),
        ]);
        let (mut screen, out, err) = screen(false, false, false);
        answered(frames, &mut Drain, &mut screen, Leave::NEVER).await.unwrap();
        assert!(fixture::plain(&out.text()).starts_with("nginx: drained and stopped"), "{}", out.text());
        let talk = err.text();
        assert!(talk.starts_with("07:01:28  nginx: the gate is shut at 2 doors\n"), "{talk}");
        assert!(talk.contains("  nginx  draining  37 of 212 left  oldest"), "{talk}");
    }

    #[tokio::test]
    async fn json_is_each_frame_on_a_line_and_nothing_else() {
        let frames = fixture::frames();
        let (mut screen, out, err) = screen(true, false, false);
        let answer = answered(frames.clone(), &mut Drain, &mut screen, Leave::NEVER).await.unwrap();
        assert_eq!(answer, Answer::Whole(Exit::Failed), "one of them is a refusal");
        let text = out.text();
        let back: Vec<Frame> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, frames);
        assert_eq!(fixture::plain(&err.text()), "error: nginx: it was not done\n");
    }

    #[tokio::test]
    async fn quiet_is_the_report_and_refusals() {
        let frames = with_done(vec![
            Frame::Event(fixture::event()),
            Frame::Note(fixture::note()),
            Frame::Progress(fixture::progress()),
            Frame::Drained(fixture::report()),
            Frame::Refused(fixture::refusal(RefusalKind::HeldByOther)),
        ]);
        let (mut screen, out, err) = screen(false, true, false);
        answered(frames, &mut Drain, &mut screen, Leave::NEVER).await.unwrap();
        assert!(fixture::plain(&out.text()).starts_with("nginx: drained and stopped"));
        assert_eq!(fixture::plain(&err.text()), "error: nginx: it was not done\n");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_no_success() {
        let (mut screen, _, _) = screen(false, false, false);
        let answer = answered(vec![Frame::Event(fixture::event())], &mut Drain, &mut screen, Leave::NEVER).await;
        assert!(matches!(answer, Err(Problem::CutShort)));
    }

    #[tokio::test]
    async fn a_reader_that_leaves_ends_it_without_failure() {
        let frames = with_done(vec![Frame::Session(fixture::session()); 100_000]);
        let answer = answered(frames, &mut Sessions::default(), &mut broken(), Leave::NEVER).await;
        assert!(answer.is_err_and(|problem| problem.is_broken_pipe() && problem.exit() == Exit::Done));
    }

    #[tokio::test]
    async fn a_hundred_thousand_sessions_are_streamed() {
        let frames = with_done(vec![Frame::Session(fixture::session()); 100_000]);
        let (mut screen, out, _) = screen(false, false, false);
        answered(frames, &mut Sessions::default(), &mut screen, Leave::NEVER).await.unwrap();
        assert_eq!(out.text().lines().count(), 100_001);
    }

    /// One test for both signals: a signal reaches every test of this process that listens.
    #[tokio::test]
    async fn the_operator_can_leave() {
        for kind in ["INT", "TERM"] {
            let (client, mut server) = in_process(Peer { uid: 0, name: "root".to_owned(), behalf: None });
            let (mut screen, _, err) = screen(false, false, true);
            let agent = async {
                let call = server.next().await.unwrap();
                call.reply.send(Frame::Progress(fixture::progress())).await;
                // Shown once it is drawn; then the signal comes.
                while err.text().is_empty() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let pid = std::process::id().to_string();
                let killed = std::process::Command::new("kill").args([&format!("-{kind}"), &pid]).status().unwrap();
                assert!(killed.success());
                call.reply.gone().await;
            };
            let mut leave = Leave::by_signal().unwrap();
            let asked = async { ask(&client, Request::Holds, &mut Drain, &mut screen, &mut leave).await };
            let (answer, ()) = tokio::join!(asked, agent);
            assert_eq!(answer.unwrap(), Answer::Left { stopping: false }, "{kind}");
            assert!(err.text().starts_with("nginx  draining  37 of 212 left"), "{}", err.text());
        }
    }

    #[tokio::test]
    async fn live_lines_stay_below_what_is_said() {
        let (client, mut server) = in_process(Peer { uid: 0, name: "root".to_owned(), behalf: None });
        let (mut screen, out, err) = screen(false, false, true);
        let agent = async {
            let call = server.next().await.unwrap();
            call.reply.send(Frame::Progress(fixture::progress())).await;
            while err.text().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            for frame in [Frame::Event(fixture::event()), Frame::Drained(fixture::report()), Frame::Done] {
                call.reply.send(frame).await;
            }
        };
        let mut never = Leave::NEVER;
        let asked = async { ask(&client, Request::Holds, &mut Drain, &mut screen, &mut never).await };
        let (answer, ()) = tokio::join!(asked, agent);
        assert_eq!(answer.unwrap(), Answer::Whole(Exit::Done));
        let talk = err.text();
        let (line, event) = (talk.find("nginx  draining").unwrap(), talk.find("07:01:28  nginx").unwrap());
        assert!(talk[line..event].ends_with("\n\r\x1b[1A\x1b[J"), "the line is taken away first: {talk:?}");
        assert!(!talk[event..].contains("draining  37"), "and does not come back after the end: {talk:?}");
        assert!(out.text().contains("drained and stopped"));
    }
}
