//! The asking half over a resident agent's socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_wire::v1::{Frame, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::socket::{BEHALF, VERSION};
use crate::{Client, FRAMES_AHEAD, LinkError, Way};

/// An agent answers the head of a request at once; this long means that it hangs.
const HEAD: Duration = Duration::from_secs(30);

/// Whether an agent is resident.
#[derive(Debug)]
pub enum Found {
    /// It is, and answers us.
    Agent(Client),
    /// None is.
    Nobody,
    /// It is, and we may not speak to it.
    Forbidden,
}

#[derive(Clone, Debug)]
pub(crate) struct Remote {
    path: PathBuf,
    behalf: Option<(u32, String)>,
}

impl Client {
    /// Looks for a resident agent at its socket. `behalf`: behind `sudo`, who called it.
    ///
    /// # Errors
    /// [`LinkError::Socket`]: it cannot be told whether there is one.
    pub async fn find(path: &Path, behalf: Option<(u32, String)>) -> Result<Found, LinkError> {
        match UnixStream::connect(path).await {
            Ok(_) => Ok(Found::Agent(Self(Way::There(Remote { path: path.to_owned(), behalf })))),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                    Ok(Found::Nobody)
                }
                io::ErrorKind::PermissionDenied => Ok(Found::Forbidden),
                _ => Err(failed("reach", path)(error)),
            },
        }
    }
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    let path = path.display().to_string();
    move |source| LinkError::Socket { what, path, source }
}

impl Remote {
    pub(crate) async fn ask(&self, request: &Request) -> Result<mpsc::Receiver<Frame>, LinkError> {
        let body = serde_json::to_vec(request).map_err(|error| failed("write to", &self.path)(error.into()))?;
        let answer = tokio::time::timeout(HEAD, self.post(body)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        let answer = answer.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => LinkError::Gone,
            _ => failed("ask at", &self.path)(error),
        })?;
        let version = answer.headers().get(VERSION).and_then(|version| version.to_str().ok());
        let version = version.unwrap_or("of another kind").to_owned();
        if !answer.status().is_success() {
            let said = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Err(LinkError::NotUnderstood { version, text: String::from_utf8_lossy(&said).trim().to_owned() });
        }
        let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
        tokio::spawn(read(answer.into_body(), sender));
        Ok(frames)
    }

    async fn post(&self, body: Vec<u8>) -> io::Result<hyper::Response<Incoming>> {
        let stream = UnixStream::connect(&self.path).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the answer's body, or when we drop that.
        tokio::spawn(connection);
        let mut request =
            hyper::Request::post("/v1/ask").header("host", "ebb").header("content-type", "application/json");
        if let Some((uid, name)) = &self.behalf {
            request = request.header(BEHALF, format!("{uid} {name}"));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }
}

/// Passes on frame by frame until the answer or its reader ends.
async fn read(mut body: Incoming, frames: mpsc::Sender<Frame>) {
    let mut waiting: Vec<u8> = Vec::new();
    loop {
        let part = tokio::select! {
            part = body.frame() => part,
            () = frames.closed() => return,
        };
        // An end without `Done`, or a broken connection: the reader sees an answer that is not whole.
        let Some(Ok(part)) = part else { return };
        let Ok(data) = part.into_data() else { continue };
        waiting.extend_from_slice(&data);
        let whole = waiting.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in waiting[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // A frame of a kind that a newer agent sends is passed over.
            if let Ok(frame) = serde_json::from_slice(line)
                && frames.send(frame).await.is_err()
            {
                return;
            }
        }
        waiting.drain(..whole);
    }
}
