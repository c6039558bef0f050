//! The door of a resident agent: HTTP on a unix socket.
//!
//! `POST /v1/ask` takes a request as JSON and answers with frames, one JSON object a line, as `--json` prints them; the
//! asker leaves by closing the connection. `GET /v1/events` streams events (server-sent events, resumable by
//! `Last-Event-ID`), `GET /v1/openapi.json` describes it all. Who asks is told by the kernel (`SO_PEERCRED`).

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use ebb_wire::v1::{EventsRequest, Frame, Request};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use utoipa::OpenApi;

use crate::remote::failed;
use crate::{Call, LinkError, Peer, one_viewer};

/// Which ebb answers.
pub(crate) const VERSION: &str = "ebb-version";
/// `UID NAME`: behind `sudo`, who called it. Believed from root only.
pub(crate) const BEHALF: &str = "ebb-behalf";
/// The largest request names some hundred services; a session id takes 16 bytes.
const REQUEST_MAX: usize = 4 << 20;
/// Frames are sent together up to about this size, so that 100,000 sessions are not as many writes.
const TOGETHER: usize = 64 * 1024;

/// An open socket.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

/// Where a socket puts the calls.
#[derive(Clone, Debug)]
pub struct Intake {
    calls: mpsc::Sender<Call>,
    name_of: fn(u32) -> String,
}

/// Who connected, as the kernel told when they did.
#[derive(Clone, Copy, Debug)]
struct Caller {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

impl Door {
    /// Opens the socket, in place of one that nobody serves any more. It belongs to `group` (else to root alone), whose
    /// members may connect.
    ///
    /// # Errors
    /// [`LinkError::Served`]: another agent serves there. [`LinkError::Socket`]: it cannot be made.
    pub async fn open(path: &Path, group: Option<u32>) -> Result<Self, LinkError> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(LinkError::Served { path: path.display().to_string() });
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed("make the directory of", path))?;
        }
        // Made aside and moved: nobody connects before it has its owner and mode.
        let aside = path.with_extension("new");
        let _ = std::fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(failed("make", path))?;
        let own = || -> io::Result<()> {
            if group.is_some() {
                chown(&aside, None, group)?;
            }
            let mode = if group.is_some() { 0o660 } else { 0o600 };
            std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(mode))?;
            std::fs::rename(&aside, path)
        };
        own().map_err(failed("make", path))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until dropped. A broken connection ends its own answer only.
    pub async fn serve(self, intake: Intake) {
        let router = Router::new()
            .route("/v1/ask", post(ask))
            .route("/v1/events", get(events))
            .route("/v1/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], document()) }))
            .layer(DefaultBodyLimit::max(REQUEST_MAX))
            .with_state(intake);
        let service = router.into_make_service_with_connect_info::<Caller>();
        // It returns only on an error of the listener itself, which accept(2) does not give.
        let _ = axum::serve(self.listener, service).await;
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Intake {
    pub(crate) fn new(calls: mpsc::Sender<Call>) -> Self {
        Self { calls, name_of: |uid| format!("uid {uid}") }
    }

    /// With the names of users.
    #[must_use]
    pub fn naming(self, name_of: fn(u32) -> String) -> Self {
        Self { name_of, ..self }
    }

    /// Hands a call to the agent; its frames.
    async fn put(
        &self,
        request: Request,
        caller: Caller,
        headers: &HeaderMap,
    ) -> Result<mpsc::Receiver<Frame>, Response> {
        let Some(uid) = caller.uid else { return Err(problem(StatusCode::FORBIDDEN, "who asks is not known")) };
        let behalf = headers.get(BEHALF).filter(|_| uid == 0).and_then(|behalf| {
            let (uid, name) = behalf.to_str().ok()?.split_once(' ')?;
            Some((uid.parse().ok()?, name.to_owned()))
        });
        let (reply, frames) = one_viewer();
        let call = Call { request, peer: Peer { uid, name: (self.name_of)(uid), behalf }, reply };
        let gone = |_| problem(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending");
        self.calls.send(call).await.map_err(gone)?;
        Ok(frames)
    }
}

/// A problem in words.
fn problem(status: StatusCode, text: impl Into<String>) -> Response {
    (status, version(), text.into()).into_response()
}

const fn version() -> [(&'static str, &'static str); 1] {
    [(VERSION, env!("CARGO_PKG_VERSION"))]
}

/// Asks the agent. The answer is a stream of frames, one JSON object a line, the last of which has the type `done`.
#[utoipa::path(
    post, path = "/v1/ask", request_body = Request,
    responses(
        (status = 200, description = "Frames, one a line; refusals are frames too", body = Frame,
         content_type = "application/x-ndjson"),
        (status = 400, description = "The request makes no sense: what, in words", body = String),
        (status = 503, description = "The agent is ending", body = String),
    )
)]
async fn ask(
    State(intake): State<Intake>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match intake.put(request, caller, &headers).await {
        Err(problem) => problem,
        Ok(frames) => {
            let lines = stream(frames, |frame, out| {
                // Writing into memory; a frame is plain data.
                let _ = serde_json::to_writer(&mut *out, &frame);
                out.push(b'\n');
            });
            (version(), [(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
        }
    }
}

/// Which events.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only of this service.
    service: Option<String>,
    /// Begin with the last so many.
    #[serde(default)]
    last: usize,
}

/// Events as they happen, as server-sent events: `id` is the sequence, `data` the event as JSON. With `Last-Event-ID`
/// those after that one come first.
#[utoipa::path(
    get, path = "/v1/events", params(EventsQuery),
    responses((status = 200, description = "Events", body = ebb_wire::v1::Event, content_type = "text/event-stream"))
)]
async fn events(
    State(intake): State<Intake>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Response {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let request = EventsRequest { service: query.service, last: query.last, follow: true, after };
    match intake.put(Request::Events(request), caller, &headers).await {
        Err(problem) => problem,
        Ok(frames) => {
            let lines = stream(frames, |frame, out| {
                if let Frame::Event(event) = frame {
                    out.extend_from_slice(format!("id: {}\nevent: {}\ndata: ", event.sequence, event.name).as_bytes());
                    let _ = serde_json::to_writer(&mut *out, &event);
                    out.extend_from_slice(b"\n\n");
                }
            });
            (version(), [(header::CONTENT_TYPE, "text/event-stream")], lines).into_response()
        }
    }
}

/// Frames as a body; those that are there are sent together.
fn stream(frames: mpsc::Receiver<Frame>, write: fn(Frame, &mut Vec<u8>)) -> Body {
    let parts = futures_util::stream::unfold(frames, move |mut frames| async move {
        let mut next = Some(frames.recv().await?);
        let mut out = Vec::new();
        while let Some(frame) = next {
            write(frame, &mut out);
            next = if out.len() < TOGETHER { frames.try_recv().ok() } else { None };
        }
        Some((Ok::<_, Infallible>(Bytes::from(out)), frames))
    });
    Body::from_stream(parts)
}

#[derive(OpenApi)]
#[openapi(
    info(title = "ebb agent", description = "The API of one server's agent, on its unix socket"),
    paths(ask, events)
)]
struct Document;

/// The `OpenAPI` document.
#[must_use]
pub fn document() -> String {
    // Plain data with string keys.
    Document::openapi().to_pretty_json().unwrap_or_default()
}
