//! Real servers, and a certificate that this process trusts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use ebb_model::{About, MailTls, Matter, Notice, NotifySettings, NotifyWay, Occasion, Span, Wall, WebhookFormat};

/// A directory of its own, gone at the end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ebb-notify-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A file of this mode.
    pub fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        let mut file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    /// A self-signed certificate for `name`, and its key.
    pub fn certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (self.0.join(format!("{name}.pem")), self.0.join(format!("{name}.key")));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (cert, key)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server, ended with us.
pub struct Peer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    pub port: u16,
}

impl Peer {
    pub fn start(script: &str, args: &[&Path]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
        // Debian's own, for which aiosmtpd is packaged.
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.arg(path).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("it serves").unwrap().parse().unwrap();
        Self { child, lines, port }
    }

    /// What it got next; waits for it.
    pub fn got(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.lines.next().expect("it runs").unwrap()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn notice(key: &str) -> Notice {
    let about = About {
        matter: Matter::Maintenance,
        server: "web1".into(),
        services: Vec::new(),
        reason: "Ümlaut\r\nBcc: evil@example.org".into(),
        requester: "maintenance".into(),
        by: "ana".into(),
        at: Wall(1_700_000_000_000),
        until: None,
        trouble: None,
    };
    Notice { occasion: Occasion::Start, key: key.into(), about, users: Vec::new() }
}

pub fn settings(way: NotifyWay) -> NotifySettings {
    NotifySettings {
        way,
        on: BTreeSet::from(Occasion::ALL),
        subject: Some("{{ server }}: {{ reason }}".into()),
        text: None,
        timeout: Span::seconds(20),
    }
}

pub fn mail(server: String, tls: MailTls, login: Option<(&str, &Path)>) -> NotifySettings {
    settings(NotifyWay::Mail {
        server,
        tls,
        login: login.map(|(name, file)| (name.to_owned(), file.display().to_string())),
        from: "ebb <ebb@example.org>".into(),
        to: vec!["ops@example.org".into()],
        users: true,
    })
}

pub fn hook(url: String, format: WebhookFormat, headers: &[(&str, &str)]) -> NotifySettings {
    let headers: BTreeMap<String, String> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings(NotifyWay::Webhook { url, format, headers })
}

/// Runs a test again in a process that trusts this certificate alone; true in that process.
pub fn trusting(test: &str, cert: &Path) -> bool {
    if std::env::var_os("SSL_CERT_FILE").is_some_and(|file| file == cert) {
        return true;
    }
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SSL_CERT_FILE", cert)
        .env_remove("SSL_CERT_DIR")
        .env("EBB_TEST_PEERS", cert.parent().unwrap())
        .status()
        .unwrap();
    assert!(again.success(), "{test} failed in a process that trusts the certificate");
    false
}
