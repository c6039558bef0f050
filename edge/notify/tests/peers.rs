//! Notices sent to real servers: SMTP by aiosmtpd, HTTP and HTTPS by Python's own, with what goes wrong with each.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "peers/mod.rs"]
mod peers;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use ebb_model::{MailTls, NotifySettings, Span, WebhookFormat};
use ebb_notify::{NotifyError, recipients, send};
use peers::{Dir, Peer, hook, mail, notice, trusting};

fn sent(settings: &NotifySettings, to: &str) -> Result<Vec<String>, NotifyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(send(&notice("maintenance/7/start"), "ops", to, settings));
    runtime.shutdown_background();
    done.map(|sent| sent.remarks)
}

fn why(settings: &NotifySettings, to: &str) -> (String, bool) {
    let error = sent(settings, to).expect_err("it fails");
    (error.to_string(), error.is_final())
}

/// The certificates of the process before, in the one that trusts them; new ones in the first.
fn place(name: &str) -> (Option<Dir>, PathBuf) {
    match std::env::var_os("EBB_TEST_PEERS") {
        Some(dir) => (None, dir.into()),
        None => {
            let dir = Dir::new(name);
            dir.certificate("localhost");
            dir.certificate("other.example.org");
            let path = dir.0.clone();
            (Some(dir), path)
        }
    }
}

#[test]
fn a_mail_arrives_whole_and_nothing_in_it_is_a_header_of_somebody_else() {
    let mut peer = Peer::start("mail_server.py", &[Path::new("plain"), Path::new("-"), Path::new("-")]);
    let settings = mail(format!("127.0.0.1:{}", peer.port), MailTls::None, None);
    for _ in 0..2 {
        assert_eq!(sent(&settings, "ops@example.org").unwrap(), Vec::<String>::new());
    }
    let (first, second) = (peer.got(), peer.got());
    assert_eq!(first["to"], serde_json::json!(["ops@example.org"]));
    let text = first["mail"].as_str().unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let id = |text: &str| text.lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
    assert_eq!(id(text), id(second["mail"].as_str().unwrap()), "the same notice, the same mail");
    assert!(id(text).contains("maintenance/7/start"), "{text}");
}

#[test]
fn who_gets_it_is_configured_and_on_the_list() {
    let mut told = notice("k");
    told.users =
        ["bo@example.org", "OPS@example.org", "carl", "not an@address@x", "bo@example.org"].map(Into::into).to_vec();
    let settings = mail("h:25".into(), MailTls::None, None);
    assert_eq!(recipients(&told, &settings), ["ops@example.org", "bo@example.org"]);
}

#[test]
fn a_refused_address_is_final_and_one_for_later_is_not() {
    let peer = Peer::start("mail_server.py", &[Path::new("plain"), Path::new("-"), Path::new("-")]);
    let settings = mail(format!("127.0.0.1:{}", peer.port), MailTls::None, None);
    let (text, is_final) = why(&settings, "nobody@example.org");
    assert!(is_final && text.contains("550") && text.contains("no such user"), "{text}");
    let (text, is_final) = why(&settings, "later@example.org");
    assert!(!is_final && text.contains("451"), "{text}");
}

#[test]
fn starttls_with_a_login_and_what_goes_wrong_with_it() {
    let (_dir, dir) = place("starttls");
    if !trusting("starttls_with_a_login_and_what_goes_wrong_with_it", &dir.join("localhost.pem")) {
        return;
    }
    let mut peer =
        Peer::start("mail_server.py", &[Path::new("starttls"), &dir.join("localhost.pem"), &dir.join("localhost.key")]);
    let secrets = Dir::new("secrets");
    let good = secrets.put("good", "s3cret\n", 0o600);
    let at = format!("localhost:{}", peer.port);
    let with = |file: &Path| mail(at.clone(), MailTls::StartTls, Some(("ebb", file)));
    sent(&with(&good), "ops@example.org").unwrap();
    let got = peer.got();
    assert_eq!((got["tls"].as_bool(), got["login"].as_bool()), (Some(true), Some(true)), "{got}");

    let (text, is_final) = why(&with(&secrets.put("bad", "wr0ng\n", 0o600)), "ops@example.org");
    assert!(!is_final && text.contains("535") && !text.contains("wr0ng"), "{text}");
    let (text, _) = why(&with(&secrets.put("open", "s3cret\n", 0o644)), "ops@example.org");
    assert!(text.contains("everybody may read it: chmod 600") && !text.contains("s3cret"), "{text}");
    let (text, _) = why(&with(Path::new("/nowhere/password")), "ops@example.org");
    assert!(text.contains("/nowhere/password") && text.contains("No such file"), "{text}");

    // A server that cannot is not spoken to in the clear.
    let plain = Peer::start("mail_server.py", &[Path::new("plain"), Path::new("-"), Path::new("-")]);
    let (text, _) =
        why(&mail(format!("localhost:{}", plain.port), MailTls::StartTls, Some(("ebb", &good))), "ops@example.org");
    assert!(text.to_lowercase().contains("starttls"), "{text}");
    for (mode, tls) in [("starttls", MailTls::StartTls), ("tls", MailTls::Always)] {
        let other = Peer::start(
            "mail_server.py",
            &[Path::new(mode), &dir.join("other.example.org.pem"), &dir.join("other.example.org.key")],
        );
        let (text, _) = why(&mail(format!("localhost:{}", other.port), tls, None), "ops@example.org");
        assert!(text.contains("certificate"), "{text}");
    }
    let mut wrapped =
        Peer::start("mail_server.py", &[Path::new("tls"), &dir.join("localhost.pem"), &dir.join("localhost.key")]);
    sent(&mail(format!("localhost:{}", wrapped.port), MailTls::Always, None), "ops@example.org").unwrap();
    assert!(wrapped.got()["mail"].as_str().unwrap().contains("Subject: "));
}

#[test]
fn a_webhook_gets_each_format_once_and_can_tell_a_second_one() {
    let mut peer = Peer::start("hook_server.py", &[]);
    let secrets = Dir::new("hook");
    let token = format!("file:{}", secrets.put("token", "Bearer t0ken\n", 0o600).display());
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", peer.port);
    let json = hook(at("/json?a=1"), WebhookFormat::Json, &[("Authorization", &token)]);
    let matrix = hook(at("/send/m.room.message"), WebhookFormat::Matrix, &[]);
    let (slack, teams) = (hook(at("/slack"), WebhookFormat::Slack, &[]), hook(at("/teams"), WebhookFormat::Teams, &[]));
    for settings in [&json, &json, &matrix, &slack, &teams] {
        sent(settings, "").unwrap();
    }
    let (first, again) = (peer.got(), peer.got());
    let key = |got: &serde_json::Value| got["headers"]["idempotency-key"].clone();
    assert_eq!((key(&first), key(&first).as_str()), (key(&again), Some("maintenance%2F7%2Fstart%2Fops")));
    assert_eq!(
        (first["path"].as_str(), first["headers"]["authorization"].as_str()),
        (Some("/json?a=1"), Some("Bearer t0ken"))
    );
    let body: serde_json::Value = serde_json::from_str(first["body"].as_str().unwrap()).unwrap();
    assert_eq!((body["at"].as_str(), body["trouble"].is_null()), (Some("2023-11-14T22:13:20Z"), true), "{body}");
    let put = peer.got();
    let path = "/send/m.room.message/maintenance%2F7%2Fstart%2Fops";
    assert_eq!((put["method"].as_str(), put["path"].as_str()), (Some("PUT"), Some(path)));
    assert!(peer.got()["body"].as_str().unwrap().starts_with("{\"text\":\"*web1: "));
    assert!(peer.got()["body"].as_str().unwrap().contains("AdaptiveCard"));
}

#[test]
fn what_goes_wrong_with_a_webhook_is_said_without_its_secrets() {
    let peer = Peer::start("hook_server.py", &[]);
    let at = |path: &str| hook(format!("http://127.0.0.1:{}{path}", peer.port), WebhookFormat::Json, &[]);
    for (path, is_final) in [("/500", false), ("/429", false), ("/404", false), ("/400", true), ("/302", false)] {
        let (text, said_final) = why(&at(&format!("{path}/s3cret")), "");
        assert_eq!(said_final, is_final, "{text}");
        assert!(text.contains(&path[1..]) && !text.contains("s3cret") && !text.contains('\u{1b}'), "{text}");
    }
    let (text, _) = why(&at("/302"), "");
    assert!(text.contains("elsewhere.example.org") && text.contains("not followed"), "{text}");
    sent(&at("/200/endless"), "").unwrap();
    let (text, _) = why(&NotifySettings { timeout: Span(300), ..at("/hang") }, "");
    assert!(text.contains("no answer within"), "{text}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let slow = NotifySettings { timeout: Span(300), ..mail(format!("127.0.0.1:{port}"), MailTls::None, None) };
    assert!(why(&slow, "ops@example.org").0.contains("no answer within"));
    drop(silent);
    assert!(why(&mail(format!("127.0.0.1:{port}"), MailTls::None, None), "ops@example.org").0.contains("refused"));
    let refused = hook(format!("http://127.0.0.1:{port}/"), WebhookFormat::Json, &[]);
    assert!(why(&refused, "").0.contains("refused"));
    let unknown = hook("http://no-such-host.invalid/".into(), WebhookFormat::Json, &[]);
    let (text, _) = why(&unknown, "");
    assert!(text.contains("no-such-host.invalid:80 cannot be reached"), "{text}");
    for (url, says) in [("ftp://h/", "neither https://"), ("http://u:p@h/", "login"), ("http:// h/", "makes no sense")]
    {
        let (text, _) = why(&hook(url.into(), WebhookFormat::Json, &[]), "");
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn https_is_trusted_as_this_server_trusts() {
    let (_dir, dir) = place("https");
    if !trusting("https_is_trusted_as_this_server_trusts", &dir.join("localhost.pem")) {
        return;
    }
    let at = |peer: &Peer| hook(format!("https://localhost:{}/x", peer.port), WebhookFormat::Json, &[]);
    let mut good = Peer::start("hook_server.py", &[&dir.join("localhost.pem"), &dir.join("localhost.key")]);
    sent(&at(&good), "").unwrap();
    assert_eq!(good.got()["method"], "POST");
    let bad = Peer::start("hook_server.py", &[&dir.join("other.example.org.pem"), &dir.join("other.example.org.key")]);
    let (text, is_final) = why(&at(&bad), "");
    assert!(!is_final && text.contains("certificate"), "{text}");
}
