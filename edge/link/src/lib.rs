//! Carries requests and frames between face and shell.
//!
//! Today both halves are in one process: with no agent running, `ebb` starts one for the length of
//! the command, and talks to it through the same door that a socket will be.

use ebb_wire::v1::{Frame, Request};
use tokio::sync::mpsc;

/// Frames that may wait unread before the agent must wait: bounds memory when a viewer is slow.
const FRAMES_AHEAD: usize = 256;
/// Calls that may wait for the agent.
const CALLS_AHEAD: usize = 16;

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The agent has ended.
    #[error("the agent has ended")]
    Gone,
}

/// Who is at the other end, as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Login name.
    pub name: String,
}

/// The asking half.
#[derive(Clone, Debug)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    peer: Peer,
}

/// The answer to one request, frame by frame; dropping it means that the viewer has left.
#[derive(Debug)]
pub struct Frames {
    frames: mpsc::Receiver<Frame>,
}

/// The answering half.
#[derive(Debug)]
pub struct Server {
    calls: mpsc::Receiver<Call>,
}

/// One request and the way back.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// By whom.
    pub peer: Peer,
    /// Where the answer goes.
    pub reply: Reply,
}

/// The way back to one viewer.
#[derive(Clone, Debug)]
pub struct Reply {
    frames: mpsc::Sender<Frame>,
}

/// Both halves, for an agent in this process; `peer` is who runs it.
#[must_use]
pub fn in_process(peer: Peer) -> (Client, Server) {
    let (sender, calls) = mpsc::channel(CALLS_AHEAD);
    (Client { calls: sender, peer }, Server { calls })
}

impl Client {
    /// Asks; the answer comes frame by frame.
    ///
    /// # Errors
    /// [`LinkError::Gone`] if the agent has ended.
    pub async fn ask(&self, request: Request) -> Result<Frames, LinkError> {
        let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
        let call = Call { request, peer: self.peer.clone(), reply: Reply { frames: sender } };
        self.calls.send(call).await.map_err(|_| LinkError::Gone)?;
        Ok(Frames { frames })
    }
}

impl Frames {
    /// The next frame; none after [`Frame::Done`], or if the agent ended in the middle.
    pub async fn next(&mut self) -> Option<Frame> {
        self.frames.recv().await
    }
}

impl Server {
    /// The next call; none once every client is gone.
    pub async fn next(&mut self) -> Option<Call> {
        self.calls.recv().await
    }
}

impl Reply {
    /// Sends one frame, waiting while the viewer is slow. False if the viewer has left.
    pub async fn send(&self, frame: Frame) -> bool {
        self.frames.send(frame).await.is_ok()
    }

    /// Sends one frame if there is room: for progress that a later frame replaces anyway.
    pub fn offer(&self, frame: Frame) {
        // Full or closed: nothing is lost that the next progress does not say again.
        let _ = self.frames.try_send(frame);
    }

    /// Sends one frame from a thread that may block. False if the viewer has left.
    #[must_use]
    pub fn send_blocking(&self, frame: Frame) -> bool {
        self.frames.blocking_send(frame).is_ok()
    }

    /// Whether the viewer has left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }

    /// Returns once the viewer has left.
    pub async fn gone(&self) {
        self.frames.closed().await;
    }
}
