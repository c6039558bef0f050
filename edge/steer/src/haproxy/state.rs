//! What HAProxy says of a backend: its level, its worker, figures and states, told in one answer.

use std::collections::BTreeMap;

use super::{Haproxy, State};
use crate::Error;
use crate::error::short;

/// `SRV_ADMF_FMAINT`: told to be in maintenance.
const MAINT: u32 = 0x01;
/// `SRV_ADMF_FDRAIN`: told to drain.
const DRAIN: u32 = 0x08;
/// `SRV_ADMF_CMAINT`: disabled by the configuration; it remembers that, and means nothing after `ready`.
const CONFIGURED: u32 = 0x04;
/// `SRV_ST_STARTING` and `SRV_ST_RUNNING`.
const WORKS: [u32; 2] = [1, 2];

/// All that is to be known.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) worker: u32,
    pub(super) me: Row,
    pub(super) others: Vec<Row>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    operation: u32,
    admin: u32,
    pub(super) weight: u32,
    pub(super) configured: u32,
    pub(super) sessions: Option<u64>,
    pub(super) cookie: Option<String>,
}

impl Row {
    /// What it was told to be.
    pub(super) fn state(&self) -> State {
        if self.admin & MAINT != 0 {
            State::Maint
        } else if self.admin & DRAIN != 0 {
            State::Drain
        } else {
            State::Ready
        }
    }

    /// Whether newcomers can be sent to it.
    pub(super) fn is_usable(&self) -> bool {
        WORKS.contains(&self.operation) && self.admin & !CONFIGURED == 0 && self.weight > 0
    }
}

fn not_understood(of: &Haproxy, what: &str) -> Error {
    Error::NotUnderstood { at: of.at.clone(), what: short(what) }
}

/// What a refusal means.
pub(super) fn refusal(said: &str, of: &Haproxy) -> Error {
    let (at, what) = (of.at.clone(), short(said));
    let help = |text: &str| text.to_owned();
    if said.starts_with("Permission denied") {
        return Error::NotPermitted {
            at,
            what,
            help: help("the socket needs `level admin` (stats socket … level admin)"),
        };
    }
    if said.contains("No such server") {
        let what = format!("server {}/{}", of.backend, of.server);
        return Error::Missing { at, what, help: help("`show servers state` lists them") };
    }
    if said.contains("No such proxy") || said.contains("Can't find backend") || said.contains("No such backend") {
        return Error::Missing { at, what: format!("backend {}", of.backend), help: help("`show backend` lists them") };
    }
    let fixed = "a backend with a static algorithm keeps its weights: leave out the slow start";
    Error::Refused { at, what, help: help(if said.contains("static") { fixed } else { "its log may say more" }) }
}

/// Reads the four answers: level, worker, figures, states.
pub(super) fn read(answer: &str, of: &Haproxy) -> Result<Seen, Error> {
    let whole = answer.strip_suffix("\n\n").ok_or_else(|| match answer.trim() {
        "" => not_understood(of, "nothing was said"),
        _ => not_understood(of, "it ends in the middle"),
    })?;
    let mut parts = whole.split("\n\n").map(str::trim);
    let mut part = || parts.next().unwrap_or_default();
    let (level, facts, figures, states) = (part(), part(), part(), part());
    if level != "admin" {
        return Err(match level {
            "operator" | "user" => refusal(&format!("Permission denied at level {level}"), of),
            other => not_understood(of, other),
        });
    }
    let worker = facts.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok());
    let worker = worker.ok_or_else(|| not_understood(of, facts.lines().next().unwrap_or_default()))?;
    let states = match states.strip_prefix("1\n") {
        Some(states) => table(states, ' ', of)?,
        None if states.is_empty() => return Err(not_understood(of, "no states")),
        None => return Err(refusal(states, of)),
    };
    let figures = if figures.starts_with('#') { table(figures, ',', of)? } else { return Err(refusal(figures, of)) };
    let mut rows = Vec::new();
    for state in &states {
        rows.push(row(state, &figures, of)?);
    }
    let (me, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.name == of.server);
    let me = me.into_iter().next().ok_or_else(|| refusal("No such server", of))?;
    Ok(Seen { worker, me, others })
}

type Line<'a> = BTreeMap<&'a str, &'a str>;

/// A heading with a `#`, and lines with as many words.
fn table<'a>(text: &'a str, by: char, of: &Haproxy) -> Result<Vec<Line<'a>>, Error> {
    let mut lines = text.lines();
    let heading = lines.next().and_then(|line| line.strip_prefix("# "));
    let heading: Vec<_> = heading.ok_or_else(|| not_understood(of, text))?.split(by).collect();
    let mut table = Vec::new();
    for line in lines {
        let words: Vec<_> = line.split(by).collect();
        if words.len() != heading.len() {
            return Err(not_understood(of, line));
        }
        table.push(heading.iter().copied().zip(words).collect());
    }
    Ok(table)
}

fn row(state: &Line<'_>, figures: &[Line<'_>], of: &Haproxy) -> Result<Row, Error> {
    let number = |key: &str| {
        let number = state.get(key).and_then(|word| word.parse::<u32>().ok());
        number.ok_or_else(|| not_understood(of, &format!("{key} is no number")))
    };
    let name = *state.get("srv_name").ok_or_else(|| not_understood(of, "srv_name is missing"))?;
    if state.get("be_name") != Some(&of.backend.as_str()) {
        return Err(not_understood(of, "it is of another backend"));
    }
    let figure = figures.iter().find(|line| line.get("svname") == Some(&name));
    let cookie = figure.and_then(|line| line.get("cookie")).filter(|cookie| !cookie.is_empty());
    Ok(Row {
        name: name.to_owned(),
        operation: number("srv_op_state")?,
        admin: number("srv_admin_state")?,
        weight: number("srv_uweight")?,
        configured: number("srv_iweight")?,
        sessions: figure.and_then(|line| line.get("scur")?.parse().ok()),
        cookie: cookie.map(|cookie| short(cookie)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = include_str!("answer.txt");

    fn of(server: &str) -> Haproxy {
        Haproxy { at: "/h".to_owned(), backend: "be".to_owned(), server: server.to_owned() }
    }

    #[test]
    fn an_answer_of_haproxy_2_6_is_read() {
        let seen = read(ANSWER, &of("s1")).unwrap();
        assert_eq!((seen.worker, seen.others.len()), (6737, 2));
        let me = seen.me.clone();
        assert_eq!((me.state(), me.weight, me.configured, me.sessions), (State::Drain, 40, 100, Some(3)));
        assert_eq!((me.cookie.as_deref(), me.is_usable()), (Some("one"), false));
        // Disabled by the configuration, and told to be ready since.
        let other = &seen.others[0];
        assert_eq!((other.name.as_str(), other.state(), other.is_usable()), ("s2", State::Ready, true));
        assert!(!seen.others[1].is_usable(), "it is down");
        assert!(matches!(read(ANSWER, &of("s9")), Err(Error::Missing { .. })));
    }

    #[test]
    fn what_it_refuses_says_what_to_do() {
        let level = ANSWER.replacen("admin", "operator", 1);
        assert!(matches!(read(&level, &of("s1")), Err(Error::NotPermitted { .. })));
        let error = read("admin\n\nPid: 7\n\nNo such proxy.\n\nCan't find backend.\n\n", &of("s1"));
        assert!(matches!(&error, Err(Error::Missing { what, .. }) if what == "backend be"), "{error:?}");
        let fixed = "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.";
        assert!(refusal(fixed, &of("s1")).to_string().contains("leave out the slow start"));
    }

    #[test]
    fn half_an_answer_is_none() {
        for end in 0..ANSWER.len() {
            let seen = ANSWER.get(..end).map(|half| read(half, &of("s3")));
            assert!(seen.is_none_or(|seen| seen.is_err()), "{end} of {}", ANSWER.len());
        }
        for nonsense in ["", "\n\n", "admin\n\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\u{1b}[2J\n\n"] {
            let error = read(nonsense, &of("s1")).unwrap_err().to_string();
            assert!(!error.contains('\u{1b}') && error.len() < 400, "{error}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(at in any::<prop::sample::Index>(), with in ".{0,40}") {
            let mut answer = ANSWER.to_owned();
            let at = at.index(answer.len());
            answer.replace_range(at..(at + 7).min(answer.len()), &with);
            let _ = read(&answer, &of("s1"));
        }
    }
}
