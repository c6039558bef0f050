//! One session of a client, and the judgement whether it was harmed.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::dice::Dice;

/// Within this an echo must be back; generous, for a machine that has other things to do.
const IN_TIME: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a session was harmed before it said goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The server closed it.
    Closed,
    /// The connection was reset or broke.
    Broken(io::ErrorKind),
    /// A line was not said back in time.
    Silent,
    /// Something else than the line was said back.
    Garbled,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the server closed it"),
            Self::Broken(kind) => write!(f, "it broke: {kind}"),
            Self::Silent => write!(f, "no echo within {} s", IN_TIME.as_secs()),
            Self::Garbled => f.write_str("the echo was not what had been said"),
        }
    }
}

impl From<io::Error> for Harm {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Broken(kind),
        }
    }
}

/// One session: a line now and then until its time or everybody's is over, then its goodbye.
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    pub(crate) number: u64,
    pub(crate) until: Instant,
    pub(crate) dice: Dice,
    pub(crate) closing: watch::Receiver<bool>,
}

impl Session {
    /// Lives it; `answered` is called for each line that came back.
    pub(crate) async fn live(mut self, mut answered: impl FnMut()) -> Result<(), Harm> {
        let mut line = 0_u64;
        // A first line at once: a connection that the kernel accepted and the service never saw is no session.
        loop {
            self.say(line).await?;
            answered();
            line += 1;
            if !self.pause().await? {
                self.goodbye().await;
                return Ok(());
            }
        }
    }

    /// Says a line and hears it back.
    async fn say(&mut self, line: u64) -> Result<(), Harm> {
        let said = format!("session {} line {line}\n", self.number).into_bytes();
        let mut heard = vec![0; said.len()];
        timeout(IN_TIME, async {
            self.stream.write_all(&said).await?;
            self.stream.read_exact(&mut heard).await
        })
        .await
        .map_err(|_| Harm::Silent)??;
        if heard == said { Ok(()) } else { Err(Harm::Garbled) }
    }

    /// Waits for the time of the next line; false when it is time to go.
    async fn pause(&mut self) -> Result<bool, Harm> {
        let next = Instant::now() + self.dice.between(SHORTEST_PAUSE, LONGEST_PAUSE);
        let mut unasked = [0_u8; 1];
        tokio::select! {
            () = sleep_until(next.min(self.until)) => Ok(next < self.until),
            _ = self.closing.wait_for(|closing| *closing) => Ok(false),
            heard = self.stream.read(&mut unasked) => match heard? {
                0 => Err(Harm::Closed),
                _ => Err(Harm::Garbled),
            },
        }
    }

    /// Ends it from our side. What happens after our goodbye harms nobody.
    async fn goodbye(mut self) {
        let deadline = Instant::now() + IN_TIME;
        let _ = self.stream.shutdown().await;
        let _ = timeout_at(deadline, self.stream.read(&mut [0_u8; 1])).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What a session calls harm when a server behaves like this.
    async fn harmed_by<F: Future<Output = ()>>(server: impl FnOnce(TcpStream) -> F) -> Result<u64, Harm> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (closer, closing) = watch::channel(false);
        let until = Instant::now() + Duration::from_secs(2);
        let session = Session { stream, number: 1, until, dice: Dice::new(1), closing };
        let mut lines = 0;
        let client = session.live(|| lines += 1);
        let (client, (), ()) =
            tokio::join!(client, async { server(listener.accept().await.unwrap().0).await }, async {
                drop(closer.borrow());
            });
        client.map(|()| lines)
    }

    async fn echo_lines(server: &mut TcpStream, lines: usize) {
        let mut buffer = [0; 64];
        for _ in 0..lines {
            let length = server.read(&mut buffer).await.unwrap();
            server.write_all(&buffer[..length]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_session_that_is_let_alone_is_not_harmed() {
        let lines = harmed_by(|mut server| async move {
            let (mut from, mut to) = server.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        })
        .await;
        assert!(lines.unwrap() > 0);
    }

    #[tokio::test]
    async fn each_harm_is_seen() {
        let closed = harmed_by(|mut server| async move { echo_lines(&mut server, 1).await }).await;
        assert_eq!(closed, Err(Harm::Closed));
        let reset = harmed_by(|mut server| async move {
            echo_lines(&mut server, 1).await;
            server.set_zero_linger().unwrap();
        })
        .await;
        assert_eq!(reset, Err(Harm::Broken(io::ErrorKind::ConnectionReset)));
        let garbled = harmed_by(|mut server| async move {
            server.write_all(b"session 1 line 7\n").await.unwrap();
            let _ = server.read_to_end(&mut Vec::new()).await;
        })
        .await;
        assert_eq!(garbled, Err(Harm::Garbled));
        let unasked = harmed_by(|mut server| async move {
            echo_lines(&mut server, 1).await;
            server.write_all(b"go away\n").await.unwrap();
            let _ = server.read_to_end(&mut Vec::new()).await;
        })
        .await;
        assert_eq!(unasked, Err(Harm::Garbled));
        let silent = harmed_by(|mut server| async move {
            echo_lines(&mut server, 1).await;
            let _ = server.read_to_end(&mut Vec::new()).await;
        })
        .await;
        assert_eq!(silent, Err(Harm::Silent));
    }
}
