//! The parts that processes of the benchmark play. Each has one thread, so that its CPU time can be read exactly.

use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ebb_kernel::diag::{Diag, Query};
use rustix::event::{PollFd, PollFlags, poll};

/// Bytes of one round trip.
const PING: usize = 64;

type Outcome = std::io::Result<()>;

/// Plays a part to its end.
pub fn play(arguments: &[&str]) -> ExitCode {
    let done = match arguments {
        ["keep", count] => keep(number(count)),
        ["greet"] => greet(),
        ["echo"] => echo(),
        ["listen"] => listen(),
        ["connect", to, count] => connect(to, number(count)),
        ["knock", to] => knock(to),
        ["ping", to] => ping(to),
        ["host"] => host(),
        ["return", from, to, count] => come_back(from, to, number(count)),
        ["dump", port, details] => dump(port, *details == "details"),
        _ => Err(std::io::Error::other(format!("no such part: {arguments:?}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-part {arguments:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_default()
}

fn listener() -> std::io::Result<TcpListener> {
    std::io::stdin().as_fd().try_clone_to_owned().map(TcpListener::from)
}

fn say(line: &str) -> Outcome {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Waits for ever: the one who started us ends us.
fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

/// Accepts so many, greets each with a byte, keeps them.
fn keep(count: usize) -> Outcome {
    let listener = listener()?;
    let mut kept = Vec::with_capacity(count);
    while kept.len() < count {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"!")?;
        kept.push(stream);
    }
    say("kept")?;
    rest()
}

/// Accepts and closes.
fn greet() -> Outcome {
    let listener = listener()?;
    loop {
        drop(listener.accept()?);
    }
}

/// Sends back whatever comes, one client after the other.
fn echo() -> Outcome {
    let listener = listener()?;
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut bytes = [0; PING];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes)?;
        }
    }
}

/// Listens and does nothing.
fn listen() -> Outcome {
    let _listener = listener()?;
    say("listening")?;
    rest()
}

/// Makes so many connections, waits for the greeting of each, and closes them all when told anything. It closes its side
/// only: a socket without a program would count against the machine's `tcp_max_orphans`.
fn connect(to: &str, count: usize) -> Outcome {
    let to: SocketAddr = to.parse().map_err(std::io::Error::other)?;
    let mut kept = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(to)?;
        stream.read_exact(&mut [0])?;
        kept.push(stream);
    }
    say("connected")?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    for stream in &kept {
        // Those that were ended from outside are not connected any more.
        let _ = stream.shutdown(Shutdown::Write);
    }
    say("closed")?;
    rest()
}

/// Accepts, greets, and closes what its client closes.
fn host() -> Outcome {
    let listener = listener()?;
    listener.set_nonblocking(true)?;
    let mut kept: Vec<TcpStream> = Vec::new();
    loop {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(b"!")?;
            kept.push(stream);
        }
        let ended = readable(std::iter::once(listener.as_fd()).chain(kept.iter().map(AsFd::as_fd)))?;
        let mut number = 0;
        kept.retain(|_| {
            number += 1;
            !ended[number]
        });
    }
}

/// Which of these can be read, or have ended; waits for one.
fn readable<'a>(of: impl Iterator<Item = std::os::fd::BorrowedFd<'a>>) -> std::io::Result<Vec<bool>> {
    let mut fds: Vec<PollFd<'_>> = of.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    poll(&mut fds, None)?;
    Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Makes so many connections; whichever ends is made anew to the other. Says when each was, in milliseconds.
fn come_back(from: &str, to: &str, count: usize) -> Outcome {
    let [from, to] = [from, to].map(|address| address.parse::<SocketAddr>().map_err(std::io::Error::other));
    let (from, to) = (from?, to?);
    let mut here = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(from)?;
        stream.read_exact(&mut [0])?;
        here.push(stream);
    }
    say("connected")?;
    let (began, mut times, mut there) = (Instant::now(), Vec::with_capacity(count), Vec::with_capacity(count));
    while !here.is_empty() {
        let ended = readable(here.iter().map(AsFd::as_fd))?;
        let mut number = 0;
        here.retain(|_| {
            number += 1;
            !ended[number - 1]
        });
        for _ in ended.iter().filter(|ended| **ended) {
            there.push(TcpStream::connect(to)?);
            times.push(format!("{:.1}", began.elapsed().as_secs_f64() * 1e3));
        }
    }
    say(&times.join(" "))?;
    rest()
}

/// Told "RATE MILLISECONDS": connects and closes at that rate (0: as fast as it goes); says how many were accepted and how
/// many refused.
fn knock(to: &str) -> Outcome {
    let to: SocketAddr = to.parse().map_err(std::io::Error::other)?;
    for line in std::io::stdin().lines() {
        let [rate, milliseconds] = two(&line?);
        let (began, length) = (Instant::now(), Duration::from_secs_f64(milliseconds / 1e3));
        let (mut accepted, mut refused) = (0_u32, 0_u32);
        while began.elapsed() < length {
            if rate > 0.0 && f64::from(accepted + refused) > began.elapsed().as_secs_f64() * rate {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            match TcpStream::connect(to) {
                Ok(_) => accepted += 1,
                Err(_) => refused += 1,
            }
        }
        say(&format!("{accepted} {refused}"))?;
    }
    Ok(())
}

/// Told "0 MILLISECONDS": makes round trips on one connection; says how many.
fn ping(to: &str) -> Outcome {
    let to: SocketAddr = to.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    for line in std::io::stdin().lines() {
        let [_, milliseconds] = two(&line?);
        let (began, length) = (Instant::now(), Duration::from_secs_f64(milliseconds / 1e3));
        let (mut trips, mut bytes) = (0_u32, [0; PING]);
        while began.elapsed() < length {
            stream.write_all(&bytes)?;
            stream.read_exact(&mut bytes)?;
            trips += 1;
        }
        say(&trips.to_string())?;
    }
    Ok(())
}

fn two(line: &str) -> [f64; 2] {
    let mut numbers = line.split(' ').map(|number| number.parse().unwrap_or_default());
    [numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()]
}

/// Lists the sessions of a port as a census does, and says how many, and their bytes where details are asked for.
fn dump(port: &str, details: bool) -> Outcome {
    let query = Query { ports: vec![port.parse().map_err(std::io::Error::other)?], info: details, ..Query::default() };
    let mut bytes = 0;
    let mut diag = Diag::open().map_err(std::io::Error::other)?;
    let mut each = |row: &ebb_kernel::diag::Row| bytes += row.info.map_or(0, |info| info.bytes_acked);
    let rows = diag.dump(&query, &mut each).map_err(std::io::Error::other)?;
    say(&format!("{rows} {bytes}"))
}
