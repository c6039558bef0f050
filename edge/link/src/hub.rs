//! Several viewers of one piece of work, which goes on without any.

use std::collections::BTreeSet;

use ebb_wire::v1::{Frame, Note};
use tokio::sync::broadcast;

use crate::{Reply, To};

/// Frames that a slow viewer may be behind before it misses some.
const BEHIND: usize = 4096;

/// Where viewers join.
#[derive(Clone, Debug)]
pub struct Hub(broadcast::WeakSender<Frame>);

impl Hub {
    /// A hub, and the way to all its viewers. Once the last [`Reply`] to them is dropped, nothing more comes.
    #[must_use]
    pub fn new() -> (Self, Reply) {
        let (sender, _) = broadcast::channel(BEHIND);
        (Self(sender.downgrade()), Reply(To::All(sender)))
    }

    /// Joins: from now on, what is said from here on.
    #[must_use]
    pub fn join(&self) -> Seat {
        Seat(self.0.upgrade().map(|sender| sender.subscribe()))
    }
}

/// A place among the viewers. What is said after it was taken is not missed, even if shown later.
#[derive(Debug)]
pub struct Seat(Option<broadcast::Receiver<Frame>>);

impl Seat {
    /// Passes on all that is said to `viewer`, up to the word on a maintenance that rests, or until the viewer leaves.
    /// False if nothing more comes, and that word has not come.
    pub async fn show_run(mut self, viewer: &Reply) -> bool {
        loop {
            let frame = tokio::select! {
                frame = next(self.0.as_mut(), viewer) => frame,
                () = viewer.gone() => return true,
            };
            let Some(frame) = frame else { return false };
            let last = matches!(frame, Frame::Maintenance(_));
            if !viewer.send(frame).await || last {
                return true;
            }
        }
    }

    /// Passes on to `viewer` what is said of `services` and of none, until each of them is drained, nothing more comes,
    /// or the viewer leaves.
    pub async fn show(mut self, mut services: BTreeSet<String>, viewer: &Reply) {
        while !services.is_empty() {
            let frame = tokio::select! {
                frame = next(self.0.as_mut(), viewer) => frame,
                () = viewer.gone() => return,
            };
            let Some(frame) = frame else { return };
            if frame.service().is_some_and(|service| !services.contains(service)) {
                continue;
            }
            if let Frame::Drained(report) = &frame {
                services.remove(&report.service);
            }
            if !viewer.send(frame).await {
                return;
            }
        }
    }
}

async fn next(frames: Option<&mut broadcast::Receiver<Frame>>, viewer: &Reply) -> Option<Frame> {
    let frames = frames?;
    loop {
        match frames.recv().await {
            Ok(frame) => return Some(frame),
            Err(broadcast::error::RecvError::Closed) => return None,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                let text = format!("{missed} lines were missed here: too slow; `ebb events` has what happened");
                viewer.send(Frame::Note(Note { service: None, warning: true, text })).await;
            }
        }
    }
}
