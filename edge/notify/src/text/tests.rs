use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{About, Matter, NoticeService, Occasion, ServiceName, Span};

use super::*;

fn notice(occasion: Occasion, matter: Matter) -> Notice {
    Notice {
        occasion,
        key: "maintenance/7/start".into(),
        about: About {
            matter,
            server: "web1".into(),
            services: vec![
                NoticeService { name: ServiceName::new("nginx").unwrap(), sessions: Some(12) },
                NoticeService { name: ServiceName::new("postgresql").unwrap(), sessions: None },
            ],
            reason: "new kernel".into(),
            requester: "operator".into(),
            by: "ana".into(),
            at: Wall(1_700_000_000_000),
            until: Some(Wall(1_700_003_600_000)),
            trouble: (occasion == Occasion::Trouble).then(|| "3 sessions are left".into()),
        },
        users: vec!["bo@example.org".into()],
    }
}

fn hook(format: WebhookFormat) -> NotifyWay {
    NotifyWay::Webhook { url: "https://chat.example.org/x".into(), format, headers: BTreeMap::new() }
}

fn settings(way: NotifyWay, subject: Option<&str>, text: Option<&str>) -> NotifySettings {
    NotifySettings {
        way,
        on: BTreeSet::from(Occasion::ALL),
        subject: subject.map(Into::into),
        text: text.map(Into::into),
        timeout: Span::seconds(5),
    }
}

#[test]
fn the_built_in_words_say_each_occasion_and_are_one_line_and_some() {
    let mut subjects = BTreeSet::new();
    for matter in Matter::ALL {
        for occasion in Occasion::ALL {
            let said = words(&notice(occasion, matter), "ops", &settings(NotifyWay::Wall, None, None));
            assert_eq!(said.remarks, Vec::<String>::new(), "{matter:?} {occasion:?}");
            assert!(said.subject.starts_with("web1: "), "{said:?}");
            assert!(!said.subject.contains('\n') && said.text.contains("Reason: new kernel\n"), "{said:?}");
            assert!(said.text.contains("nginx (12 sessions left), postgresql\n"), "{said:?}");
            assert!(said.text.ends_with("By: ana, as operator"), "{said:?}");
            assert_eq!(said.text.contains("Expected end: 2023-11-14 "), occasion != Occasion::End, "{said:?}");
            subjects.insert(said.subject);
        }
    }
    assert!(subjects.contains("web1: trouble with nginx, postgresql: 3 sessions are left"), "{subjects:?}");
    // The built-in ones of a drain do not tell `before` from `start`: a drain has no before.
    assert_eq!(subjects.len(), 1 + 4 + 2, "{subjects:?}");
}

#[test]
fn a_template_has_every_documented_field_and_no_other() {
    let page = include_str!("../../../../docs/notify.md");
    let all = fields(&notice(Occasion::Start, Matter::Drain), "ops", local);
    let template: String = all.as_object().unwrap().keys().map(|name| format!("{{{{ {name} }}}}|")).collect();
    let said = words(&notice(Occasion::Start, Matter::Drain), "ops", &settings(NotifyWay::Wall, None, Some(&template)));
    assert_eq!(said.remarks, Vec::<String>::new());
    for name in all.as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{name}` |")), "docs/notify.md lacks {name}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 3).count();
    assert_eq!(rows, all.as_object().unwrap().len(), "docs/notify.md has fields that are none");
}

#[test]
fn a_template_that_makes_no_sense_costs_nobody_the_notice() {
    let built_in = words(&notice(Occasion::Start, Matter::Drain), "ops", &settings(NotifyWay::Wall, None, None));
    for (subject, why) in [
        ("{{ nobody }}", "undefined"),
        ("{{ server", "syntax error"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "fuel"),
        ("  ", "gives nothing"),
    ] {
        let settings = settings(NotifyWay::Wall, Some(subject), None);
        let said = words(&notice(Occasion::Start, Matter::Drain), "ops", &settings);
        assert_eq!((&said.subject, &said.text), (&built_in.subject, &built_in.text));
        assert!(said.remarks.len() == 1 && said.remarks[0].contains(why), "{subject}: {:?}", said.remarks);
    }
}

#[test]
fn nothing_that_somebody_wrote_becomes_a_header_a_link_or_a_call() {
    let mut evil = notice(Occasion::Start, Matter::Drain);
    evil.about.reason =
        "x\r\nBcc: all@example.org\r\n\r\n<!channel> <http://evil|click> & @channel @here ana@example.org".into();
    let own = settings(NotifyWay::Wall, Some("{{ reason }}\nX-Evil: 1"), None);
    let said = words(&evil, "ops", &own);
    assert!(!said.subject.contains(['\r', '\n']), "{:?}", said.subject);
    assert!(said.text.lines().all(|line| !line.starts_with("Bcc:")), "{}", said.text);

    let said = words(&evil, "ops", &settings(hook(WebhookFormat::Slack), None, Some("<!here> {{ reason }}")));
    assert!(said.text.starts_with("<!here> "), "what the operator wrote stays: {}", said.text);
    let rest = said.text.trim_start_matches("<!here> ");
    assert!(!rest.contains(['<', '>']) && rest.contains("&lt;!channel&gt;") && rest.contains(" &amp; "), "{rest}");
    for calls in ["@channel", "@here"] {
        assert!(!rest.contains(calls), "{rest}");
    }
    assert!(rest.contains("ana@example.org"), "{rest}");
    for format in [WebhookFormat::Matrix, WebhookFormat::Teams] {
        let said = words(&evil, "ops", &settings(hook(format), None, None));
        assert!(!said.text.contains("@channel") && said.text.contains("<!"), "{}", said.text);
    }
}
