use ebb_model::{About, Matter, Occasion, Wall};

use super::*;

fn notice() -> Notice {
    let about = About {
        matter: Matter::Maintenance,
        server: "web1".into(),
        services: Vec::new(),
        reason: "r".into(),
        requester: "maintenance".into(),
        by: "ana".into(),
        at: Wall(1_700_000_000_000),
        until: None,
        trouble: None,
    };
    Notice { occasion: Occasion::Start, key: "maintenance/7 ä/start".into(), about, users: Vec::new() }
}

fn words(text: &str) -> Words {
    Words { subject: "s".into(), text: text.into(), remarks: Vec::new() }
}

#[test]
fn the_key_is_one_segment_of_a_path() {
    assert_eq!(escaped(&idempotency_key(&notice(), "ops")), "maintenance%2F7%20%C3%A4%2Fstart%2Fops");
}

#[test]
fn a_card_shows_text_as_it_is() {
    let card = body(WebhookFormat::Teams, &notice(), "ops", &words("[x](http://evil) **b**\n\n<at>all</at>"));
    let blocks = card["attachments"][0]["content"]["body"].as_array().unwrap();
    assert_eq!(blocks.len(), 3, "{card}");
    assert!(blocks.iter().all(|block| block["type"] == "RichTextBlock"), "{card}");
    assert_eq!(blocks[1]["inlines"][0]["text"], "[x](http://evil) **b**");
    assert!(card["attachments"][0]["content"]["msteams"].is_null(), "no mention is ever declared");
}

#[test]
fn a_file_of_a_header_that_everybody_may_read_is_refused_and_no_value_is_shown() {
    let uri: Uri = "http://h/".parse().unwrap();
    let ask = |key: &str, value: &str| {
        let headers = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        request(&uri, WebhookFormat::Json, &headers, &notice(), "ops", &Value::Null).map_err(|error| error.to_string())
    };
    assert!(ask("X-A", "file:/etc/passwd").unwrap_err().contains("everybody may read it"));
    assert!(ask("X-A", "file:/nowhere/token").unwrap_err().contains("No such file"));
    let split = ask("X-A", "secret\r\nX-B: 1").unwrap_err();
    assert!(split.contains("not one line") && !split.contains("secret"), "{split}");
    assert!(ask("X A", "1").unwrap_err().contains("no name of a header"));
}
