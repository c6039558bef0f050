//! The properties of one unit, from either source: a `GetAll` on the bus, or `systemctl show`.
//!
//! A property that is missing, or of a type this crate does not expect, is absent. Versions of
//! systemd differ and one strange property must not make the whole unit unreadable.

use std::{collections::HashMap, time::Duration};

use zbus::{OwnedVariant, Variant};

use crate::UnitName;

/// How systemd writes "for ever" (`USEC_INFINITY`) and "not set".
const INFINITY: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) enum Properties {
    Bus(HashMap<String, OwnedVariant>),
    Text(HashMap<String, Vec<String>>),
}

impl Properties {
    /// One block of `systemctl show`: a line each, and a line per element for some lists.
    pub(crate) fn from_show(block: &str) -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            all.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Self::Text(all)
    }

    fn bus(&self, key: &str) -> Option<&Variant<'static>> {
        match self {
            Self::Bus(all) => all.get(key).map(|value| &**value),
            Self::Text(_) => None,
        }
    }

    fn lines(&self, key: &str) -> &[String] {
        match self {
            Self::Bus(_) => &[],
            Self::Text(all) => all.get(key).map_or(&[], Vec::as_slice),
        }
    }

    fn line(&self, key: &str) -> Option<&str> {
        self.lines(key).first().map(String::as_str)
    }

    /// A text; "" where absent.
    pub(crate) fn text(&self, key: &str) -> String {
        match self.bus(key) {
            Some(value) => text_of(value).unwrap_or_default().to_owned(),
            None => self.line(key).unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.bus(key) {
            Some(Variant::Bool(value)) => Some(*value),
            Some(_) => None,
            None => self.line(key).map(|word| word == "yes"),
        }
    }

    /// A number; "not set" is absent.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        match self.bus(key) {
            Some(value) => number_of(value),
            None => self.line(key)?.parse().ok(),
        }
        .filter(|number| *number != INFINITY)
    }

    pub(crate) fn number32(&self, key: &str) -> Option<u32> {
        self.number(key).and_then(|number| u32::try_from(number).ok())
    }

    /// A length of time from a `...USec` property; `None`: for ever, or absent.
    pub(crate) fn span(&self, key: &str) -> Option<Duration> {
        match self.bus(key) {
            Some(_) => self.number(key).map(Duration::from_micros),
            None => parse_span(self.line(key)?),
        }
    }

    /// A list of strings.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        match self.bus(key) {
            Some(Variant::Array(items)) => {
                items.inner().iter().filter_map(|item| text_of(item).map(str::to_owned)).collect()
            }
            Some(_) => Vec::new(),
            None => words_of(self.lines(key)).map(str::to_owned).collect(),
        }
    }

    /// A list of unit names.
    pub(crate) fn units(&self, key: &str) -> Vec<UnitName> {
        self.list(key).iter().filter_map(|name| UnitName::new(name).ok()).collect()
    }

    /// Command lines (`ExecStop=` and the like), the arguments joined by blanks: for people.
    pub(crate) fn commands(&self, key: &str) -> Vec<String> {
        match self.bus(key) {
            Some(value) => structures(value).filter_map(|fields| command_of(fields)).collect(),
            None => self.lines(key).iter().filter_map(|line| command_in(line)).collect(),
        }
    }

    /// Pairs of strings: the `Listen` of sockets, as (kind, address).
    pub(crate) fn listens(&self) -> Vec<(String, String)> {
        match self.bus("Listen") {
            Some(value) => structures(value)
                .filter_map(|fields| Some((text_of(fields.first()?)?, text_of(fields.get(1)?)?)))
                .map(|(kind, address)| (kind.to_owned(), address.to_owned()))
                .collect(),
            None => self.lines("Listen").iter().filter_map(|line| listen_in(line)).collect(),
        }
    }

    /// The number of the unit's job that is queued or running.
    pub(crate) fn job(&self) -> Option<u32> {
        match self.bus("Job") {
            Some(Variant::Structure(job)) => match job.fields().first() {
                Some(Variant::U32(id)) => Some(*id),
                _ => None,
            },
            Some(_) => None,
            None => self.line("Job")?.parse().ok(),
        }
        .filter(|id| *id != 0)
    }
}

fn text_of<'a>(value: &'a Variant<'_>) -> Option<&'a str> {
    match value {
        Variant::Str(text) => Some(text.as_str()),
        _ => None,
    }
}

fn number_of(value: &Variant<'_>) -> Option<u64> {
    match value {
        Variant::U64(number) => Some(*number),
        Variant::U32(number) => Some(u64::from(*number)),
        Variant::I32(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn structures<'a>(value: &'a Variant<'static>) -> impl Iterator<Item = &'a [Variant<'static>]> {
    let items = match value {
        Variant::Array(items) => items.inner(),
        _ => &[],
    };
    items.iter().filter_map(|item| match item {
        Variant::Structure(fields) => Some(fields.fields()),
        _ => None,
    })
}

/// The second field of an Exec structure is the argument vector, the path included.
fn command_of(fields: &[Variant<'_>]) -> Option<String> {
    match fields.get(1)? {
        Variant::Array(arguments) => {
            let arguments: Vec<&str> = arguments.inner().iter().filter_map(text_of).collect();
            Some(arguments.join(" "))
        }
        _ => None,
    }
}

/// `{ path=/bin/x ; argv[]=/bin/x -a ; ignore_errors=no ; ... }`
fn command_in(line: &str) -> Option<String> {
    let (_, from) = line.split_once("argv[]=")?;
    let end = from.find(" ; ignore_errors=").or_else(|| from.find(" ; flags="))?;
    Some(from[..end].to_owned())
}

/// `[::]:80 (Stream)`
fn listen_in(line: &str) -> Option<(String, String)> {
    let (address, kind) = line.strip_suffix(')')?.rsplit_once(" (")?;
    Some((kind.to_owned(), address.to_owned()))
}

fn words_of(lines: &[String]) -> impl Iterator<Item = &str> {
    lines.iter().flat_map(|line| line.split_ascii_whitespace())
}

/// `1min 30s`, `90s`, `500ms`, `infinity`.
fn parse_span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for word in text.split_ascii_whitespace() {
        let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = word.split_at(digits);
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "month" => 2_629_800.0,
            "y" => 31_557_600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
    }
    (!text.trim().is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOW: &str = "Id=nginx.service
Description=A high performance = web server
MainPID=123
TimeoutStopUSec=5s
TimeoutStartUSec=infinity
MemoryCurrent=[not set]
RefuseManualStop=no
TriggeredBy=a.socket b.socket
Job=77
ExecStop={ path=/sbin/ssd ; argv[]=/sbin/ssd --stop --retry QUIT/5 ; ignore_errors=yes ; start_time=[n/a] }
Listen=[::]:80 (Stream)
Listen=/run/x y (Datagram)";

    #[test]
    fn show_is_read() {
        let all = Properties::from_show(SHOW);
        assert_eq!(all.text("Description"), "A high performance = web server");
        assert_eq!(all.text("Nothing"), "");
        assert_eq!(all.number("MainPID"), Some(123));
        assert_eq!(all.number("MemoryCurrent"), None);
        assert_eq!(all.span("TimeoutStopUSec"), Some(Duration::from_secs(5)));
        assert_eq!(all.span("TimeoutStartUSec"), None);
        assert_eq!(all.flag("RefuseManualStop"), Some(false));
        assert_eq!(all.flag("RefuseManualStart"), None);
        assert_eq!(all.job(), Some(77));
        assert_eq!(all.commands("ExecStop"), ["/sbin/ssd --stop --retry QUIT/5"]);
        assert_eq!(all.units("TriggeredBy").len(), 2);
        let listens = all.listens();
        assert_eq!(listens[0], ("Stream".to_owned(), "[::]:80".to_owned()));
        assert_eq!(listens[1], ("Datagram".to_owned(), "/run/x y".to_owned()));
    }

    #[test]
    fn spans() {
        for (text, millis) in [
            ("1min 30s", Some(90_000)),
            ("1min 30.500s", Some(90_500)),
            ("100ms", Some(100)),
            ("2h", Some(7_200_000)),
            ("0", None),
            ("infinity", None),
            ("", None),
            ("5 parsecs", None),
            ("999999999999999999999999y", None),
        ] {
            assert_eq!(parse_span(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn strange_types_are_absent() {
        let odd = |value: Variant<'static>| OwnedVariant::try_from(value).unwrap();
        let all = Properties::Bus(HashMap::from([
            ("MainPID".to_owned(), odd(Variant::from("text"))),
            ("Listen".to_owned(), odd(Variant::from(7_u32))),
            ("TimeoutStopUSec".to_owned(), odd(Variant::from(INFINITY))),
            ("ExecStop".to_owned(), odd(Variant::from(vec!["a", "b"]))),
            ("ControlGroupId".to_owned(), odd(Variant::from(1317_u64))),
        ]));
        assert_eq!(all.number("MainPID"), None);
        assert!(all.listens().is_empty());
        assert_eq!(all.span("TimeoutStopUSec"), None);
        assert!(all.commands("ExecStop").is_empty());
        assert_eq!(all.number("ControlGroupId"), Some(1317));
        assert_eq!(all.job(), None);
        assert!(all.units("TriggeredBy").is_empty());
    }
}
