//! Who gets notices: a real mail server and a real web server on a client's address.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Client, Host, LabError, Result, Running};

const MAIL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../edge/notify/tests/peers/mail_server.py");
const HOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../edge/notify/tests/peers/hook_server.py");
/// How long one has to begin.
const BEGIN: Duration = Duration::from_secs(20);

/// A server that keeps what it gets.
#[derive(Debug)]
pub struct Receiver(Running);

impl Receiver {
    /// A mail server (aiosmtpd) on this port.
    ///
    /// # Errors
    /// When it does not begin.
    pub fn mail(on: &Client, port: u16) -> Result<Self> {
        Self::start(on, port, &[MAIL, "plain", "-", "-"])
    }

    /// A web server on this port, that answers with what the path begins with, as in `/500`; else with 200.
    ///
    /// # Errors
    /// When it does not begin.
    pub fn hook(on: &Client, port: u16) -> Result<Self> {
        Self::start(on, port, &[HOOK])
    }

    fn start(on: &Client, port: u16, words: &[&str]) -> Result<Self> {
        let (host, port) = (format!("HOST={}", on.v4()), format!("PORT={port}"));
        // Debian's own, for which aiosmtpd is packaged.
        let mut running = on.spawn(&[&["env", &host, &port, "/usr/bin/python3"], words].concat())?;
        running.wait_for("\n", BEGIN)?;
        Ok(Self(running))
    }

    /// All that it got, each as the text of a mail or of a request's body.
    #[must_use]
    pub fn got(&self) -> Vec<String> {
        let lines = self.0.stdout();
        let whole = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let told = whole.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |told: Value| Some(told.get("mail").or_else(|| told.get("body"))?.as_str()?.to_owned());
        told.filter_map(text).collect()
    }

    /// The bodies that are JSON.
    #[must_use]
    pub fn bodies(&self) -> Vec<Value> {
        self.got().iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
    }

    /// Waits for something in which all of `words` stand.
    ///
    /// # Errors
    /// When it does not come within the limit; with all that came.
    pub fn wait(&self, words: &[&str], limit: Duration) -> Result<String> {
        let began = Instant::now();
        loop {
            let all = self.got();
            if let Some(found) = all.iter().find(|text| words.iter().all(|word| text.contains(word))) {
                return Ok(found.clone());
            }
            if began.elapsed() > limit {
                return Err(LabError::NotSeen { what: words.join(", "), limit, text: all.join("\n") });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
