//! One HTTP request, over TLS or not, whose answer is read only so far. No redirect is followed, no proxy asked.

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::NotifyError;
use crate::error::chain;

/// More of an answer is not read.
const ANSWER: usize = 4096;

/// What came back.
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Host to which it would send us on.
    pub(crate) elsewhere: Option<String>,
    /// Its beginning.
    pub(crate) text: String,
}

/// Where a URL leads.
pub(crate) struct Place {
    tls: bool,
    host: String,
    port: u16,
}

impl Place {
    pub(crate) fn of(url: &Uri) -> Result<Self, NotifyError> {
        let wrong = |what: &str| NotifyError::Settings { what: format!("the webhook's url {what}") };
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("begins with neither https:// nor http://")),
        };
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("has a login in it: put it in a header, `Authorization = \"file:PATH\"`"));
        }
        let host = url.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port: url.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Sends a request in origin form to a place.
pub(crate) async fn ask(place: &Place, request: Request<Full<Bytes>>) -> Result<Answer, NotifyError> {
    let unreachable = |cause: String| NotifyError::Unreachable { to: place.to_string(), cause };
    let stream = TcpStream::connect((place.host.as_str(), place.port));
    let stream = stream.await.map_err(|error| unreachable(chain(&error)))?;
    if !place.tls {
        return exchange(stream, request).await.map_err(unreachable);
    }
    let name = ServerName::try_from(place.host.clone()).map_err(|error| unreachable(chain(&error)))?;
    // Files are read, and a drain may be under way beside.
    let trust = tokio::task::spawn_blocking(trust).await.map_err(|error| unreachable(chain(&error)))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trust.map_err(unreachable)?));
    let stream = connector.connect(name, stream).await.map_err(|error| unreachable(chain(&error)))?;
    exchange(stream, request).await.map_err(unreachable)
}

/// What this server trusts, as it is now.
fn trust() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let known = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(known.certs);
    if roots.is_empty() {
        return Err("this server trusts no certificate at all: install ca-certificates".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| chain(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| chain(&error))?;
        read(answer).await
    };
    let mut asked = std::pin::pin!(asked);
    // The connection moves while it is waited for; one that has ended may have brought the answer.
    tokio::select! {
        answer = &mut asked => answer,
        _ = connection => asked.await,
    }
}

async fn read(answer: Response<Incoming>) -> Result<Answer, String> {
    let code = answer.status().as_u16();
    let location = answer.headers().get(hyper::header::LOCATION).and_then(|to| to.to_str().ok());
    let elsewhere = location.map(|to| {
        let host = to.parse::<Uri>().ok().and_then(|to| to.host().map(str::to_owned));
        host.unwrap_or_else(|| "another path".to_owned())
    });
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    // Its code has been said: what becomes of the rest changes nothing.
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if text.len() >= ANSWER {
            text.truncate(ANSWER);
            break;
        }
    }
    Ok(Answer { code, elsewhere, text: String::from_utf8_lossy(&text).into_owned() })
}
