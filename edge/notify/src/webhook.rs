//! Webhooks: a notice in the words of whoever takes it.

use std::collections::BTreeMap;
use std::path::Path;

use ebb_model::{Notice, WebhookFormat, printable};
use http_body_util::Full;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Uri, header};
use serde_json::{Value, json};

use crate::http::{self, Answer, Place};
use crate::text::{Words, fields, rfc3339};
use crate::{NotifyError, secret};

/// So much of an answer is shown.
const SHOWN: usize = 200;

pub(crate) async fn send(
    url: &str,
    format: WebhookFormat,
    headers: &BTreeMap<String, String>,
    notice: &Notice,
    name: &str,
    words: &Words,
) -> Result<(), NotifyError> {
    let uri: Uri = match format {
        WebhookFormat::Matrix => format!("{}/{}", url.trim_end_matches('/'), escaped(&idempotency_key(notice, name))),
        WebhookFormat::Json | WebhookFormat::Slack | WebhookFormat::Teams => url.to_owned(),
    }
    .parse()
    .map_err(|error| NotifyError::Settings { what: format!("the webhook's url makes no sense: {error}") })?;
    let place = Place::of(&uri)?;
    let request = request(&uri, format, headers, notice, name, &body(format, notice, name, words))?;
    judge(&place, http::ask(&place, request).await?)
}

fn request(
    uri: &Uri,
    format: WebhookFormat,
    headers: &BTreeMap<String, String>,
    notice: &Notice,
    name: &str,
    body: &Value,
) -> Result<Request<Full<hyper::body::Bytes>>, NotifyError> {
    let method = if format == WebhookFormat::Matrix { Method::PUT } else { Method::POST };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let wrong = |what: String| NotifyError::Settings { what };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("ebb/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .header("Idempotency-Key", escaped(&idempotency_key(notice, name)))
        .body(Full::from(body.to_string()))
        .map_err(|error| wrong(format!("the webhook's url makes no sense: {error}")))?;
    for (key, value) in headers {
        let value = match value.strip_prefix("file:") {
            Some(path) => secret::read(Path::new(path))?,
            None => value.clone(),
        };
        let key: HeaderName = key.parse().map_err(|_| wrong(format!("`{key}` is no name of a header")))?;
        // The value may be a secret: it is not shown.
        let mut value: HeaderValue =
            value.parse().map_err(|_| wrong(format!("the value of the header `{key}` is not one line of text")))?;
        value.set_sensitive(true);
        request.headers_mut().insert(key, value);
    }
    Ok(request)
}

/// The same for the same notice by the same notifier.
fn idempotency_key(notice: &Notice, name: &str) -> String {
    format!("{}/{name}", notice.key)
}

fn body(format: WebhookFormat, notice: &Notice, name: &str, words: &Words) -> Value {
    let Words { subject, text, .. } = words;
    match format {
        WebhookFormat::Json => {
            let mut all = fields(notice, name, rfc3339);
            all["subject"] = json!(subject);
            all["text"] = json!(text);
            if notice.about.until.is_none() {
                all["until"] = Value::Null;
            }
            if notice.about.trouble.is_none() {
                all["trouble"] = Value::Null;
            }
            all
        }
        WebhookFormat::Slack => json!({ "text": format!("*{subject}*\n{text}") }),
        WebhookFormat::Teams => teams(subject, text),
        WebhookFormat::Matrix => json!({
            "msgtype": "m.text",
            "body": format!("{subject}\n{text}"),
            // By this nobody is called, whatever the body says.
            "m.mentions": {},
        }),
    }
}

/// An adaptive card. Runs of rich text are shown as they are: no Markdown, no mention.
fn teams(subject: &str, text: &str) -> Value {
    let line = |line: &str, head: bool| {
        let run = if head {
            json!({"type": "TextRun", "text": line, "weight": "Bolder", "size": "Medium"})
        } else {
            json!({"type": "TextRun", "text": line})
        };
        json!({"type": "RichTextBlock", "inlines": [run]})
    };
    let lines = text.lines().filter(|one| !one.is_empty()).map(|one| line(one, false));
    let body: Vec<Value> = std::iter::once(line(subject, true)).chain(lines).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "body": body,
            },
        }],
    })
}

fn judge(place: &Place, answer: Answer) -> Result<(), NotifyError> {
    let Answer { code, elsewhere, text } = answer;
    let mut text: String = printable(text.trim()).chars().take(SHOWN).collect();
    match code {
        200..300 => return Ok(()),
        300..400 => {
            let to = elsewhere.unwrap_or_else(|| "elsewhere".to_owned());
            text =
                format!("it sends us on to {}, and that is not followed: write the url where it ends", printable(&to));
        }
        _ => {}
    }
    // What a login, an address or a busy server makes of it may change; the rest is said of this very notice.
    let is_final = matches!(code, 400..500) && !matches!(code, 401 | 403 | 404 | 407 | 408 | 409 | 423 | 425 | 429);
    Err(NotifyError::Refused { by: place.to_string(), code, text, is_final })
}

/// As one segment of a path, and one value of a header.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            escaped.push(char::from(b));
        } else {
            escaped.push_str(&format!("%{b:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests;
