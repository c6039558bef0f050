//! A way to PostgreSQL and PgBouncer: over the unix socket as the daemon's own user, as `peer` authentication wants it, or
//! over TCP with a password. Simple queries only: PgBouncer's console knows no others.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ebb_model::{DaemonKind, DaemonSettings};
use rustix::process::Uid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::{Error, Seen, call};

/// What a connection runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

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
        config.application_name("ebb").dbname(&self.database);
        if let Some(file) = &self.password_file {
            let read = tokio::fs::read_to_string(file).await;
            let password = read.map_err(|error| self.not_reached(&format!("{file}: {error}")))?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        let stream: Box<dyn Stream> = match &self.at {
            At::Socket(path) => {
                let (stream, owner) = self.connect(path.clone()).await?;
                config.user(self.user.as_deref().or(user).unwrap_or(&owner));
                Box::new(stream)
            }
            At::Address(host, port) => {
                config.user(self.user.as_deref().or(user).unwrap_or("postgres"));
                let connected = tokio::net::TcpStream::connect((host.as_str(), *port)).await;
                Box::new(connected.map_err(|error| self.not_reached(&error))?)
            }
        };
        let opened = config.connect_raw(stream, NoTls).await;
        let (client, connection) = opened.map_err(|error| self.failed(&error))?;
        tokio::select! {
            done = work(client) => done,
            ended = connection => Err(match ended {
                Ok(()) => self.not_reached(&"it closed the connection"),
                Err(error) => self.failed(&error),
            }),
        }
    }

    /// Connects as the owner of the socket: the kernel tells the server who connects, by the user of the thread that does.
    async fn connect(&self, path: String) -> Result<(tokio::net::UnixStream, String), Error> {
        let (tell, told) = tokio::sync::oneshot::channel();
        // A thread of its own, which ends with that user.
        let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
            let _ = tell.send(connect_as_owner(&path));
        });
        thread.map_err(|error| self.not_reached(&error))?;
        let connected = told.await.map_err(|error| self.not_reached(&error))?;
        let (stream, owner) = connected.map_err(|error| self.not_reached(&error))?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| self.not_reached(&error))?;
        Ok((stream, owner))
    }

    pub(crate) fn failed(&self, error: &tokio_postgres::Error) -> Error {
        let Some(said) = error.as_db_error() else { return self.not_reached(&chain(error)) };
        let cause = call::short(said.message());
        // Classes of SQLSTATE: 28 is authorization, 42501 a missing right.
        if said.code().code().starts_with("28") || said.code().code() == "42501" {
            Error::NotPermitted { daemon: self.daemon, at: self.at.to_string(), cause }
        } else {
            Error::Refused { daemon: self.daemon, what: cause }
        }
    }

    /// The rows of a query.
    pub(crate) async fn rows(&self, client: &Client, query: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        let messages = client.simple_query(query).await.map_err(|error| self.failed(&error))?;
        let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }
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

/// On a thread that does nothing else: its effective user becomes that of the socket's owner, and stays so.
fn connect_as_owner(path: &str) -> std::io::Result<(UnixStream, String)> {
    let owner = std::fs::metadata(path)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        let keep = None::<Uid>;
        rustix::thread::set_thread_res_uid(keep, Some(Uid::from_raw(owner)), keep)?;
    }
    let stream = UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok((stream, name_of(owner)))
}

/// The login name of a user id, from `/etc/passwd`; its number where there is none.
fn name_of(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)? == uid.to_string()).then(|| name.to_owned())
    };
    text.lines().find_map(name).unwrap_or_else(|| uid.to_string())
}

/// A column as a number.
pub(crate) fn number<T: std::str::FromStr>(row: &SimpleQueryRow, column: &str) -> Option<T> {
    row.try_get(column).ok().flatten()?.parse().ok()
}

/// A column as a text; none if it is null or empty.
pub(crate) fn text(row: &SimpleQueryRow, column: &str) -> Option<String> {
    row.try_get(column).ok().flatten().filter(|text| !text.is_empty()).map(str::to_owned)
}
