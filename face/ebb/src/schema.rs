//! That `docs/json.md` is true.

use std::collections::BTreeSet;

use ebb_wire::v1::Frame;

use crate::fixture;

const PAGE: &str = include_str!("../../../docs/json.md");

/// The value of `type`; a new kind of frame does not compile before it is here.
const fn kind(frame: &Frame) -> &'static str {
    match frame {
        Frame::Event(_) => "event",
        Frame::Progress(_) => "progress",
        Frame::Session(_) => "session",
        Frame::Service(_) => "service",
        Frame::Hold(_) => "hold",
        Frame::Plan(_) => "plan",
        Frame::Note(_) => "note",
        Frame::Drained(_) => "drained",
        Frame::Resumed(_) => "resumed",
        Frame::Status(_) => "status",
        Frame::Ended(_) => "ended",
        Frame::Listed(_) => "listed",
        Frame::Eta(_) => "eta",
        Frame::Held(_) => "held",
        Frame::Released(_) => "released",
        Frame::Finding(_) => "finding",
        Frame::Step(_) => "step",
        Frame::Maintenance(_) => "maintenance",
        Frame::Fault(_) => "fault",
        Frame::Checked(_) => "checked",
        Frame::Setting(_) => "setting",
        Frame::Guard(_) => "guard",
        Frame::Notifier(_) => "notifier",
        Frame::Noticed(_) => "noticed",
        Frame::Refused(_) => "refused",
        Frame::Done => "done",
    }
}

#[test]
fn each_frame_is_documented_by_the_line_that_is_printed() {
    let mut lacks = Vec::new();
    for frame in fixture::frames() {
        let kind = kind(&frame);
        let line = serde_json::to_string(&frame).unwrap();
        assert!(line.starts_with(&format!("{{\"type\":\"{kind}\"")), "{line}");
        if !PAGE.contains(&format!("## `{kind}`\n")) || !PAGE.lines().any(|one| one == line) {
            lacks.push(line);
        }
    }
    assert!(lacks.is_empty(), "docs/json.md lacks a section or its example:\n{}", lacks.join("\n"));
}

#[test]
fn the_page_has_no_example_that_is_not_printed() {
    let examples: BTreeSet<&str> = PAGE.lines().filter(|line| line.starts_with('{')).collect();
    let printed = fixture::frames().len();
    assert_eq!(examples.len(), printed, "an example of a frame that is no more");
    let kinds: BTreeSet<&str> = fixture::frames().iter().map(kind).collect();
    assert_eq!(kinds.len(), printed, "one of each kind");
}

#[test]
fn each_field_is_explained() {
    for frame in fixture::frames() {
        let kind = kind(&frame);
        let after = PAGE.split_once(&format!("## `{kind}`\n")).map_or("", |(_, after)| after);
        let section = after.split_once("\n## ").map_or(after, |(section, _)| section);
        let value = serde_json::to_value(&frame).unwrap();
        for field in value.as_object().unwrap().keys().filter(|field| *field != "type") {
            assert!(section.contains(&format!("`{field}`")), "docs/json.md: `{kind}` does not explain `{field}`");
        }
    }
}
