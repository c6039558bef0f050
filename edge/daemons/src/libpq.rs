//! A way to PostgreSQL and PgBouncer: over the unix socket as the daemon's own user, as `peer` authentication wants it, or
//! over TCP with a password. Simple queries only: PgBouncer's console knows no others.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ebb_model::{DaemonKind, DaemonSettings};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::{Error, MOST_BYTES, Seen, call, unix};

/// By which we are known there.
pub(crate) const NAME: &str = "ebb";
/// More columns than any answer that is asked for has.
const MOST_COLUMNS: usize = 64;

/// What a connection runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream of which so many bytes are read at most: the codec itself has no limit.
struct Bounded {
    stream: Box<dyn Stream>,
    left: usize,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let text = format!("more than {MOST_BYTES} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let before = into.filled().len();
        let done = ready!(Pin::new(&mut self.stream).poll_read(cx, into));
        self.left = self.left.saturating_sub(into.filled().len() - before);
        Poll::Ready(done)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a query gave.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The first of its rows.
    pub(crate) rows: Vec<SimpleQueryRow>,
    /// So many more came, and were not kept.
    pub(crate) more: u64,
}

/// Where it is, and as whom it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) daemon: DaemonKind,
    at: At,
    user: Option<String>,
    password_file: Option<String>,
    database: String,
}

#[derive(Clone, Debug)]
enum At {
    Socket(String),
    Address(String, u16),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => f.write_str(path),
            Self::Address(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl Way {
    /// By its settings, else by the first unix socket on which the service listens: `.s.PGSQL.PORT`. None without either.
    pub(crate) fn of(daemon: DaemonKind, seen: &Seen, settings: &DaemonSettings, database: &str) -> Option<Self> {
        let of_service = || seen.unix.iter().find(|path| path.rsplit('/').next().is_some_and(is_libpq));
        let at = match (&settings.socket, &settings.address) {
            (Some(path), _) => At::Socket(path.clone()),
            (None, Some(address)) => {
                let (host, port) = address.rsplit_once(':')?;
                At::Address(host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)
            }
            (None, None) => At::Socket(of_service()?.clone()),
        };
        Some(Self {
            daemon,
            at,
            user: settings.user.clone(),
            password_file: settings.password_file.clone(),
            database: settings.database.clone().unwrap_or_else(|| database.to_owned()),
        })
    }

    fn not_reached(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::NotReached { daemon: self.daemon, at: self.at.to_string(), cause: call::short(&cause.to_string()) }
    }

    /// Opens a connection for the length of some work. `user` is who speaks over a unix socket, if the settings name nobody.
    pub(crate) async fn with<T, F>(&self, user: Option<&str>, work: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut config = tokio_postgres::Config::new();
        config.application_name(NAME).dbname(&self.database);
        if let Some(file) = &self.password_file {
            let read = tokio::fs::read_to_string(file).await;
            let password = read.map_err(|error| self.not_reached(&format!("{file}: {error}")))?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        let stream: Box<dyn Stream> = match &self.at {
            At::Socket(path) => {
                let (stream, owner) = unix::connect(self.daemon, path).await?;
                config.user(self.user.as_deref().or(user).unwrap_or(&owner));
                Box::new(stream)
            }
            At::Address(host, port) => {
                config.user(self.user.as_deref().or(user).unwrap_or("postgres"));
                let connected = tokio::net::TcpStream::connect((host.as_str(), *port)).await;
                Box::new(connected.map_err(|error| self.not_reached(&error))?)
            }
        };
        let opened = config.connect_raw(Bounded { stream, left: MOST_BYTES }, NoTls).await;
        let (client, connection) = opened.map_err(|error| self.failed(&error))?;
        let (mut connection, mut work) = (Box::pin(connection), pin!(work(client)));
        let ended = tokio::select! {
            biased;
            done = &mut work => {
                // Its client is gone by now: it takes leave, which keeps the server's log free of lost connections.
                let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
                return done;
            }
            ended = &mut connection => ended,
        };
        drop(connection);
        // What the server said last is read still, and says more.
        match (work.await, ended) {
            (Ok(done), _) => Ok(done),
            (Err(said @ (Error::Refused { .. } | Error::NotPermitted { .. })), _) => Err(said),
            (Err(_), Err(error)) => Err(self.failed(&error)),
            (Err(said), Ok(())) => Err(said),
        }
    }

    fn not_permitted(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::NotPermitted { daemon: self.daemon, at: self.at.to_string(), cause: call::short(&cause.to_string()) }
    }

    pub(crate) fn failed(&self, error: &tokio_postgres::Error) -> Error {
        let Some(said) = error.as_db_error() else {
            let what = chain(error);
            return if is_lost(error) { self.not_reached(&what) } else { self.not_understood(&what) };
        };
        // Classes of SQLSTATE: 28 is authorization, 42501 a missing right.
        if said.code().code().starts_with("28") || said.code().code() == "42501" {
            self.not_permitted(&said.message())
        } else {
            Error::Refused { daemon: self.daemon, what: call::short(said.message()) }
        }
    }

    pub(crate) fn not_understood(&self, what: &str) -> Error {
        Error::NotUnderstood { daemon: self.daemon, what: call::short(what) }
    }

    /// The rows of a query, the first `most` of them; the others are counted.
    pub(crate) async fn rows(&self, client: &Client, query: &str, most: usize) -> Result<Rows, Error> {
        let mut messages = pin!(client.simple_query_raw(query).await.map_err(|error| self.failed(&error))?);
        let mut all = Rows::default();
        while let Some(message) = messages.next().await {
            match message.map_err(|error| self.failed(&error))? {
                SimpleQueryMessage::RowDescription(columns) if columns.len() > MOST_COLUMNS => {
                    return Err(self.not_understood(&format!("rows of {} columns", columns.len())));
                }
                SimpleQueryMessage::Row(row) if all.rows.len() < most => all.rows.push(row),
                SimpleQueryMessage::Row(_) => all.more += 1,
                _ => {}
            }
        }
        Ok(all)
    }
}

/// Whether the connection was lost or not answered, rather than answered with something that makes no sense.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let senseless =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    error.is_closed() || source.is_some_and(|error| !senseless(error))
}

fn is_libpq(name: &str) -> bool {
    name.strip_prefix(".s.PGSQL.").is_some_and(|port| port.parse::<u16>().is_ok())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// A column as a number.
pub(crate) fn number<T: std::str::FromStr>(row: &SimpleQueryRow, column: &str) -> Option<T> {
    row.try_get(column).ok().flatten()?.parse().ok()
}

/// A column as a text; none if it is null or empty.
pub(crate) fn text(row: &SimpleQueryRow, column: &str) -> Option<String> {
    row.try_get(column).ok().flatten().filter(|text| !text.is_empty()).map(str::to_owned)
}
