//! What is said: the operator's templates, or the built-in ones.

use std::borrow::Cow;

use ebb_model::{Notice, NotifySettings, NotifyWay, Wall, WebhookFormat, printable};
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde_json::json;

/// Steps that a template may take: far more than any text needs, and less than anybody would wait for.
const FUEL: u64 = 100_000;

const SUBJECT: &str = "\
{% set names = services | map(attribute='name') | join(', ') %}\
{{ server }}: \
{% if matter == 'test' %}this is a test of {{ notifier }}\
{% elif occasion == 'trouble' %}trouble{% if names %} with {{ names }}{% endif %}: {{ trouble }}\
{% elif matter == 'drain' and occasion == 'end' %}{{ names }} accepts new sessions again\
{% elif matter == 'drain' %}{{ names }} is being drained\
{% elif occasion == 'before' %}maintenance begins at {{ at }}\
{% elif occasion == 'start' %}maintenance has begun\
{% else %}maintenance is over{% endif %}";

const TEXT: &str = "\
{% if matter == 'test' %}Nothing happens on {{ server }}: this is a test of the notifier {{ notifier }}.
{% elif occasion == 'before' %}{{ server }} goes into maintenance at {{ at }}. New sessions are refused from then on; those that \
exist may go on.
{% elif occasion == 'start' %}New sessions are refused since {{ at }}. Those that exist may go on until they end.
{% elif occasion == 'end' and matter == 'drain' %}New sessions are accepted again since {{ at }}.
{% elif occasion == 'end' %}It is over, and new sessions are accepted.
{% else %}{{ trouble }}
At: {{ at }}
{% endif %}\
{% if services %}Services: {% for service in services %}{{ service.name }}\
{% if service.sessions is not none %} ({{ service.sessions }} sessions left){% endif %}\
{% if not loop.last %}, {% endif %}{% endfor %}
{% endif %}\
{% if reason %}Reason: {{ reason }}
{% endif %}\
{% if until and occasion != 'end' %}Expected end: {{ until }}
{% endif %}\
{% if by %}By: {{ by }}{% if requester %}, as {{ requester }}{% endif %}
{% endif %}";

/// A notice in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// One line.
    pub(crate) subject: String,
    /// Lines, without an end of line after the last.
    pub(crate) text: String,
    /// Why they are not what the settings wish.
    pub(crate) remarks: Vec<String>,
}

/// Puts a notice into words. What is wrong with a template does not keep anybody from being told.
pub(crate) fn words(notice: &Notice, name: &str, settings: &NotifySettings) -> Words {
    let escape = escape_of(&settings.way);
    let values = Value::from(Serde(fields(notice, name, local)));
    let mut remarks = Vec::new();
    let mut filled = |what: &str, own: Option<&String>, built_in: &str| {
        if let Some(template) = own {
            match fill(template, &values, escape) {
                Ok(text) if !text.trim().is_empty() => return text,
                Ok(_) => remarks.push(format!("the template of the {what} gives nothing; the built-in one was used")),
                Err(error) => {
                    let why = crate::error::chain(&error);
                    remarks
                        .push(format!("the template of the {what} makes no sense ({why}); the built-in one was used"));
                }
            }
        }
        // That these work for each notice is tested.
        fill(built_in, &values, escape).unwrap_or_else(|_| notice.key.clone())
    };
    let subject = filled("subject", settings.subject.as_ref(), SUBJECT);
    let text = filled("text", settings.text.as_ref(), TEXT);
    // A subject is one line, whatever its template says: a second one would be a header.
    let subject = subject.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let text = text.lines().map(tame).collect::<Vec<_>>().join("\n");
    Words { subject: tame(&subject), text: text.trim_end().to_owned(), remarks }
}

/// All that is known of a notice, as templates and the generic webhook have it. `docs/notify.md` lists it.
pub(crate) fn fields(notice: &Notice, name: &str, time: fn(Wall) -> String) -> serde_json::Value {
    let about = &notice.about;
    let services: Vec<_> =
        about.services.iter().map(|one| json!({"name": one.name.as_str(), "sessions": one.sessions})).collect();
    json!({
        "version": 1,
        "key": notice.key,
        "notifier": name,
        "occasion": notice.occasion.as_str(),
        "matter": about.matter.as_str(),
        "server": about.server,
        "services": services,
        "reason": about.reason,
        "requester": about.requester,
        "by": about.by,
        "at": time(about.at),
        "until": about.until.map(time).unwrap_or_default(),
        "trouble": about.trouble.clone().unwrap_or_default(),
        "users": notice.users,
    })
}

/// For people, in this server's time zone.
fn local(at: Wall) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// For programs.
pub(crate) fn rfc3339(at: Wall) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

type Escape = fn(&str) -> String;

/// What the values in a text must not do where it is shown. What a template itself says may: it is the operator's.
fn escape_of(way: &NotifyWay) -> Escape {
    match way {
        NotifyWay::Webhook { format: WebhookFormat::Slack, .. } => |text| unmentioned(&entities(text)),
        NotifyWay::Webhook { format: WebhookFormat::Matrix | WebhookFormat::Teams, .. } => unmentioned,
        NotifyWay::Webhook { format: WebhookFormat::Json, .. } | NotifyWay::Mail { .. } | NotifyWay::Wall => {
            str::to_owned
        }
    }
}

fn fill(template: &str, values: &Value, escape: Escape) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(move |out, _, value| {
        let text = value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
        out.write_str(&escape(&printable(&text)))?;
        Ok(())
    });
    environment.render_str(template, values)
}

/// Without what moves a cursor; what breaks a mention is ours, and stays.
fn tame(line: &str) -> String {
    line.split(BREAK).map(printable).collect::<Vec<_>>().join(BREAK)
}

/// As Slack and those who speak like it ask for: `<` begins a link or a mention of theirs.
fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A word joiner: nothing is seen, and the word before it has ended.
const BREAK: &str = "\u{2060}";

/// With `@channel` and the like broken, so that nobody is called by what somebody wrote as a reason. Addresses stay.
fn unmentioned(text: &str) -> String {
    let mut broken = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        broken.push(c);
        if c == '@' && !before.is_alphanumeric() {
            broken.push_str(BREAK);
        }
        before = c;
    }
    broken
}

#[cfg(test)]
mod tests;
