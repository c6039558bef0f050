//! A stream to a server, by TCP or a unix socket, and one question over it. Bounded in bytes and time.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::error::short;
use crate::{Error, Until};

/// What can be read from and written to.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) fn not_reached(at: &str, error: &std::io::Error) -> Error {
    let cause = short(&error.to_string());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::NotPermitted {
            at: at.to_owned(),
            what: cause,
            help: "give this user the right to write there".to_owned(),
        },
        _ => Error::NotReached { at: at.to_owned(), cause },
    }
}

/// Connects to a path (it begins with `/`), or to `HOST:PORT`.
pub(crate) async fn connect(at: &str) -> Result<Box<dyn Stream>, Error> {
    let failed = |error: std::io::Error| not_reached(at, &error);
    if at.starts_with('/') {
        return Ok(Box::new(UnixStream::connect(at).await.map_err(failed)?));
    }
    Ok(Box::new(TcpStream::connect(at).await.map_err(failed)?))
}

/// Whether it can be a place to connect to.
pub(crate) fn check(at: &str, what: &str) -> Result<(), Error> {
    let port =
        |at: &str| at.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if (at.starts_with('/') && at.len() > 1) || port(at) {
        return Ok(());
    }
    Err(Error::Settings { what: format!("{what} at `{}`", short(at)), help: "write /PATH or HOST:PORT".to_owned() })
}

/// Writes, and reads until the other side closes.
pub(crate) async fn ask(at: &str, question: &[u8], most: usize, until: Until) -> Result<Vec<u8>, Error> {
    let talk = async {
        let mut stream = connect(at).await?;
        let failed = |error: std::io::Error| not_reached(at, &error);
        stream.write_all(question).await.map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(most as u64 + 1).read_to_end(&mut answer).await.map_err(failed)?;
        if answer.len() > most {
            return Err(Error::NotUnderstood { at: at.to_owned(), what: format!("more than {most} bytes") });
        }
        Ok(answer)
    };
    until.wait(at, talk).await
}
