//! Carries requests and frames between face and shell.
//!
//! Where an agent is resident, over a unix socket that speaks HTTP ([`socket`], [`remote`]); where none is, `ebb` starts
//! one for the length of the command, and talks to it through the same door in one process.

mod hub;
mod remote;
mod socket;

pub use hub::Hub;
pub use remote::Found;
pub use socket::{Door, Intake, document};

use ebb_wire::v1::{Frame, Request};
use tokio::sync::{broadcast, mpsc};

use remote::Remote;

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
    /// Its socket could not be opened, made or used.
    #[error("failed to {what} the agent's socket {path}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody serves there already.
    #[error("an agent serves at {path} already")]
    Served {
        /// Where.
        path: String,
    },
    /// The agent does not understand us, or we do not understand it.
    #[error("the agent (ebb {version}) did not take the request: {text}")]
    NotUnderstood {
        /// The agent's version, as far as it told.
        version: String,
        /// What it said.
        text: String,
    },
}

/// Who is at the other end, as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Login name.
    pub name: String,
    /// Behind `sudo`, the person who called it: told by root, who may say anything.
    pub behalf: Option<(u32, String)>,
}

/// The asking half.
#[derive(Clone, Debug)]
pub struct Client(Way);

#[derive(Clone, Debug)]
enum Way {
    Here { calls: mpsc::Sender<Call>, peer: Peer },
    There(Remote),
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

/// The way back: to one viewer, or to all that watch.
#[derive(Clone, Debug)]
pub struct Reply(To);

#[derive(Clone, Debug)]
enum To {
    One(mpsc::Sender<Frame>),
    All(broadcast::Sender<Frame>),
}

/// Both halves, for an agent in this process; `peer` is who runs it.
#[must_use]
pub fn in_process(peer: Peer) -> (Client, Server) {
    let (calls, server) = intake();
    (Client(Way::Here { calls, peer }), server)
}

/// The answering half of a resident agent, and where its socket puts the calls.
#[must_use]
pub fn resident() -> (Intake, Server) {
    let (calls, server) = intake();
    (Intake::new(calls), server)
}

fn intake() -> (mpsc::Sender<Call>, Server) {
    let (sender, calls) = mpsc::channel(CALLS_AHEAD);
    (sender, Server { calls })
}

fn one_viewer() -> (Reply, mpsc::Receiver<Frame>) {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    (Reply(To::One(sender)), frames)
}

impl Client {
    /// Asks; the answer comes frame by frame.
    ///
    /// # Errors
    /// [`LinkError`]: the agent has ended, or cannot be understood.
    pub async fn ask(&self, request: Request) -> Result<Frames, LinkError> {
        match &self.0 {
            Way::Here { calls, peer } => {
                let (reply, frames) = one_viewer();
                let call = Call { request, peer: peer.clone(), reply };
                calls.send(call).await.map_err(|_| LinkError::Gone)?;
                Ok(Frames { frames })
            }
            Way::There(remote) => remote.ask(&request).await.map(|frames| Frames { frames }),
        }
    }

    /// Whether the agent outlives us: it is resident.
    #[must_use]
    pub const fn is_resident(&self) -> bool {
        matches!(self.0, Way::There(_))
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
    /// Sends one frame, waiting while the viewer is slow. False if the viewer has left; of several nobody waits for one
    /// that is slow, who misses frames then.
    pub async fn send(&self, frame: Frame) -> bool {
        match &self.0 {
            To::One(frames) => frames.send(frame).await.is_ok(),
            // With nobody watching the work goes on.
            To::All(frames) => {
                let _ = frames.send(frame);
                true
            }
        }
    }

    /// Sends one frame if there is room: for progress that a later frame replaces anyway.
    pub fn offer(&self, frame: Frame) {
        // Full or closed: nothing is lost that the next progress does not say again.
        let _ = match &self.0 {
            To::One(frames) => frames.try_send(frame).is_ok(),
            To::All(frames) => frames.send(frame).is_ok(),
        };
    }

    /// Sends one frame from a thread that may block. False if the viewer has left.
    #[must_use]
    pub fn send_blocking(&self, frame: Frame) -> bool {
        match &self.0 {
            To::One(frames) => frames.blocking_send(frame).is_ok(),
            To::All(frames) => {
                let _ = frames.send(frame);
                true
            }
        }
    }

    /// Whether the viewer has left. Work that several may watch goes on without any.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            To::One(frames) => frames.is_closed(),
            To::All(_) => false,
        }
    }

    /// Returns once the viewer has left; never where several may watch.
    pub async fn gone(&self) {
        match &self.0 {
            To::One(frames) => frames.closed().await,
            To::All(_) => std::future::pending().await,
        }
    }
}
