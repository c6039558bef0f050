//! What sshd writes into the titles of its processes. `sshd-session` and `sshd-auth` are from 9.8 and 10.0 on.

/// What a title says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Title<'a> {
    /// `sshd: ana@pts/0,pts/1`, `sshd: ana@notty`; `sshd: ana` has neither shell nor command, as `ssh -N`.
    Session { user: &'a str, terminals: Option<&'a str> },
    /// `sshd: ana [net]`, `sshd: unknown [net]`, `sshd: [accepted]`.
    NotLoggedIn { user: Option<&'a str> },
    /// `sshd: ana [priv]`: root's part of a session, or of a login.
    Monitor { user: Option<&'a str> },
    /// `sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`.
    Listener,
    /// Anything else.
    Other,
}

pub(super) fn title(text: &str) -> Title<'_> {
    let rest = ["sshd: ", "sshd-session: ", "sshd-auth: "].iter().find_map(|prefix| text.strip_prefix(prefix));
    let Some(rest) = rest else { return Title::Other };
    if rest.contains(" [listener] ") {
        return Title::Listener;
    }
    let known = |user: &&str| !user.is_empty() && *user != "unknown";
    if let Some((user, part)) = rest.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        let user = Some(user.trim_end()).filter(known);
        return match part {
            "priv" => Title::Monitor { user },
            "net" | "preauth" | "accepted" => Title::NotLoggedIn { user },
            _ => Title::Other,
        };
    }
    if rest.is_empty() || rest.starts_with('/') {
        return Title::Other;
    }
    // A user of a directory may have an @ of his own: only terminals are none of his name.
    match rest.rsplit_once('@') {
        Some((user, "notty")) => Title::Session { user, terminals: None },
        Some((user, names)) if names.split(',').all(is_terminal) => Title::Session { user, terminals: Some(names) },
        _ => Title::Session { user: rest, terminals: None },
    }
}

fn is_terminal(name: &str) -> bool {
    let number = name.strip_prefix("pts/").or_else(|| name.strip_prefix("tty"));
    number.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
