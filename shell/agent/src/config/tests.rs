use std::path::{Path, PathBuf};

use ebb_model::{Backup, Check, HoldSettings, NotifyWay, Span};

use super::explain::{Explained, Origin, explain};
use super::fault::Source;
use super::schema::{TABLES, TOP};
use super::*;

const EXAMPLE: &str = include_str!("../../../../packaging/ebb.toml");
const PAGE: &str = include_str!("../../../../docs/configuration.md");

fn of(texts: &[&str]) -> Found {
    let source = |(number, text): (usize, &&str)| Source {
        path: if number == 0 { "ebb.toml".into() } else { format!("{number}.toml").into() },
        text: (*text).to_owned(),
    };
    understand(texts.iter().enumerate().map(source).collect())
}

fn config(texts: &[&str]) -> Config {
    let found = of(texts);
    assert!(found.faults.is_empty(), "{:#?}", found.faults);
    build::config(&found.tree)
}

/// `LINE:COLUMN: what`
fn said(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(|fault| fault.to_string().replacen("ebb.toml:", "", 1)).collect()
}

#[test]
fn what_nobody_says_is_the_models_default_and_the_guards_that_are_built_in() {
    let config = config(&[""]);
    assert!(config.systemd && config.groups.is_empty() && config.operators.is_empty());
    let settings = &config.settings;
    assert_eq!(settings.holds, HoldSettings::default());
    assert_eq!(settings.protect, ebb_model::ProtectSettings::default());
    assert_eq!(settings.maintenance, ebb_model::MaintenanceSettings::default());
    assert!(settings.notify.is_empty());
    let names: Vec<&str> = settings.guards.keys().map(String::as_str).collect();
    assert_eq!(names, ["clock", "disk-root", "disk-var", "failed-units", "last-door", "permission", "users"]);
    let var = Check::Disk { path: "/var".into(), warn_percent: 10.0, refuse_percent: 3.0 };
    assert_eq!(settings.guards["disk-var"].check, var);
    let gentle: Vec<&String> = settings.guards.iter().filter(|(_, one)| one.warn_only).map(|(name, _)| name).collect();
    assert_eq!(gentle, ["last-door", "users"]);
}

#[test]
fn the_example_is_accepted_and_says_what_it_seems_to() {
    let found = of(&[EXAMPLE]);
    assert_eq!((found.faults, found.warnings), (Vec::new(), Vec::new()));
    let config = config(&[EXAMPLE]);
    let groups: Vec<(&str, usize)> = config.groups.iter().map(|one| (one.name.as_str(), one.units.len())).collect();
    assert_eq!(groups, [("edge", 0), ("mail", 2)]);
    let settings = &config.settings;
    assert_eq!(settings.maintenance.uses["mail"], ["postgresql"]);
    assert_eq!(settings.maintenance.deadline, Some(Span::seconds(7200)));
    assert!(settings.guards["users"].off);
    assert!(matches!(&settings.guards["nightly"].check, Check::Backup { kind: Backup::Restic { environment }, .. }
        if environment.len() == 2));
    assert!(matches!(&settings.notify["team"].way, NotifyWay::Mail { login: Some((name, _)), .. } if name == "ebb"));
    assert_eq!(settings.notify["terminals"].on.len(), 1);
}

#[test]
fn each_kind_of_fault_has_its_line_its_column_and_its_words() {
    for (text, faults) in [
        ("\n[service.mail]\nunit = []\n", &["3:1: there is no key `unit` in [service.mail]"][..]),
        ("[service.mail]\nunits = []\n", &["1:10: service `mail` names neither"]),
        ("[gaurd.x]\nkind = \"disk\"\n", &["1:2: there is no table `gaurd`"]),
        ("operators = [\"ana\"]\n", &["1:1: there is no key `operators`"]),
        ("  systemd = 1\n", &["1:13: `systemd` must be true or false, and there is a number here"]),
        ("access = 3", &["1:10: `access` must be a table, and there is a number here"]),
        ("[guard]\nkind = \"disk\"", &["2:1: `guard.kind` is not a table but a text"]),
        ("[access]\noperators = \"ana\"", &["2:13: `operators` must be a list of texts, and there is a text here"]),
        ("[access]\noperators = [\"ana\", 7]", &["2:21: `operators` is a list of texts, and there is a number here"]),
        (
            "[access]\noperators = [\"a b\", \"@\"]",
            &["2:14: `operators`: `a b` is nobody's name", "2:21: `operators`: `@` is nobody's"],
        ),
        ("[access]\noperators = [\"ana\", \"ana\"]", &["2:21: `operators` has `ana` twice"]),
        ("[holds]\nforgotten_after = \"7\"", &["2:19: `forgotten_after`: `7` is no length of time"]),
        (
            "[holds]\nforgotten_after = 7",
            &["2:19: `forgotten_after` must be a length of time, as a text, and there is a number"],
        ),
        (
            "[holds]\nforgotten_after = 1979-05-27",
            &["2:19: `forgotten_after` must be a length of time, as a text, and there is a time"],
        ),
        ("[holds]\ndefault_reason = \"\"", &["2:18: `default_reason`: it is empty"]),
        (
            "[holds]\nserver_leaves_open = [\"a*b\"]",
            &["2:23: `server_leaves_open`: `*` in `a*b` may stand at the end only"],
        ),
        ("[protect]\nshutdown = \"dealy\"", &["2:12: `shutdown`: there is no `dealy`"]),
        ("[service.\"a/b\"]\nudp = [1]", &["1:10: "]),
        (
            "[service.a]\nudp = [0, 70000, 1.5]",
            &["2:8: `udp`: 0 is no port", "2:11: `udp`: 70000 is no port", "2:18: `udp`: 1.5 is no port"],
        ),
        (
            "[service.a]\nunits = [\"x\"]\n[service.b]\nunits = [\"y\", \"x.service\"]",
            &["4:15: `x.service` is in service `a` already"],
        ),
        (
            "[service.a]\nuses = [\"b\"]\n[service.b]\nuses = [\"c\"]\n[service.c]\nuses = [\"a.service\"]",
            &["2:9: `a` uses itself", "4:9: `b` uses itself", "6:9: `c` uses itself"],
        ),
        ("[guard.x]\nwarn_only = true", &["1:8: guard `x` has no `kind`"]),
        ("[guard.x]\nkind = \"dsik\"", &["2:8: `kind`: there is no `dsik`"]),
        (
            "[guard.x]\nkind = \"disk\"\nfiles = [\"/a\"]",
            &["1:8: guard `x` has no `path`", "3:1: a guard of kind `disk` has no `files`"],
        ),
        ("[guard.x]\nkind = \"disk\"\npath = \"var\"", &["3:8: `path`: `var` is no path from the root"]),
        ("[guard.disk-var]\nwarn_percent = 101", &["2:16: `warn_percent` must be a number from 0 to 100"]),
        ("[guard.disk-var]\nwarn_percent = nan", &["2:16: `warn_percent` must be a number from 0 to 100"]),
        ("[guard.disk-var]\nwarn_percent = 2", &["2:16: guard `disk-var` would refuse before it warns"]),
        ("[guard.x]\nkind = \"backup\"\nstanza = \"main\"", &["1:8: guard `x` has no `from`"]),
        (
            "[guard.x]\nkind = \"backup\"\nfrom = \"borg\"\nstanza = \"main\"\nrepository = \"/b\"",
            &["4:1: a guard of kind `backup/borg` has no `stanza`"],
        ),
        (
            "[guard.x]\nkind = \"backup\"\nfrom = \"file\"\npath = \"/a*/b\"",
            &["4:8: `path`: `*` may stand in the last part only"],
        ),
        (
            "[guard.x]\nkind = \"backup\"\nfrom = \"file\"\npath = \"/a/*\"\nrefuse = \"1h\"",
            &["5:10: guard `x` would refuse before it warns"],
        ),
        ("[guard.x]\nkind = \"command\"\ncommand = []", &["3:11: `command` names no program"]),
        (
            "[guard.x]\nkind = \"command\"\ncommand = [\"x\", \"x\"]\ntimeout = \"0s\"",
            &["4:11: `timeout`: no answer comes within no time"],
        ),
        ("[guard.last-door.others]\nmail = [\"b\"]", &["2:9: `mail`: `b` is not HOST:PORT"]),
        ("[guard.last-door.others]\nmail = \"b:25\"", &["2:8: `mail` must be a list of HOST:PORT"]),
        (
            "[notify.x]\nkind = \"mail\"\nfrom = \"ebb\"",
            &["1:9: notify `x` tells nobody", "3:8: `from`: `ebb` is no mail address"],
        ),
        (
            "[notify.x]\nkind = \"mail\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nlogin = \"e\"",
            &["5:1: `login` needs `password_file` beside it"],
        ),
        ("[notify.x]\nkind = \"webhook\"\nurl = \"ftp://secret\"", &["3:7: `url`: this is no URL"]),
        (
            "[notify.x]\nkind = \"webhook\"\nurl = \"http://h/\"\nheaders = { A = 1 }",
            &["4:17: `A` must be a text, and there is a number"],
        ),
        ("[notify.x]\nkind = \"wall\"\non = [\"begin\"]", &["3:7: `on`: there is no `begin`"]),
        ("systemd = tru", &["1:11: this is no TOML: "]),
        ("systemd = true\nsystemd = true", &["2:1: this is no TOML: duplicate key"]),
        ("\"é\" = é", &["1:7: this is no TOML"]),
    ] {
        let found = said(&of(&[text]).faults);
        assert_eq!(found.len(), faults.len(), "{text}\n{found:#?}");
        for wanted in faults {
            assert!(found.iter().any(|one| one.starts_with(wanted)), "{text}\nlacks {wanted}\n{found:#?}");
        }
    }
}

#[test]
fn hints_name_what_was_probably_meant_or_all_there_is() {
    for (text, hint) in [
        ("[service.mail]\nunit = []\nudp = [1]", "did you mean `units`?"),
        ("[service.mail]\nxyzzy = []\nudp = [1]", "it has `units`, `executables`, `quic`, `udp` or `uses`"),
        ("[acces]\n", "did you mean `access`?"),
        ("operators = []", "it belongs under [access]"),
        ("[protect]\nshutdown = \"dealy\"", "did you mean `delay`? it is `allow`, `delay` or `refuse`"),
        ("[maintenance]\nwatch = \"5\"", "write a number with its unit, as in 500ms, 90s, 30m, 1h30m, 2h or 7d"),
        ("[access]\noperators = 1", "as in operators = [\"ana\", \"@sre\"]"),
    ] {
        let faults = of(&[text]).faults;
        assert_eq!((faults.len(), faults[0].hint.as_deref()), (1, Some(hint)), "{text}: {faults:#?}");
    }
}

#[test]
fn all_faults_of_all_files_come_at_once_also_beside_one_that_is_no_toml() {
    let broken = "[holds]\nforgotten_after = \"x\"\n[protect\nshutdown = 1\n[nonsense]\n";
    let faults =
        of(&["systemd = 1\n[nothing]\n", broken, "[guard.disk-root]\nfiles = []\nwarn_percent = \"a lot\"\n"]).faults;
    let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let places: Vec<&str> =
        all.iter().map(|one| one.rsplit_once(": ").map_or("", |_| one.split(": ").next().unwrap())).collect();
    assert_eq!(
        places,
        ["ebb.toml:1:11", "ebb.toml:2:2", "1.toml:2:19", "1.toml:3:9", "2.toml:2:1", "2.toml:3:16"],
        "{all:#?}"
    );
}

#[test]
fn what_a_broken_file_may_have_said_is_not_called_missing() {
    let faults = of(&["[guard.x]\nwarn_only = true\n", "[guard.x]\nkind = \n"]).faults;
    assert_eq!((faults.len(), faults[0].to_string().starts_with("1.toml:2:")), (1, true), "{faults:#?}");
}

#[test]
fn later_files_win_key_by_key_and_lists_replace() {
    let config = config(&[
        "[access]\noperators = [\"ana\", \"bo\"]\n[guard.disk-var]\nwarn_percent = 20\n[guard.nightly]\nkind = \"backup\"\nfrom = \"file\"\npath = \"/b/*\"\n[guard.nightly2]\nkind = \"disk\"\npath = \"/x\"",
        "[access]\noperators = [\"cy\"]\n[guard.disk-var]\nrefuse_percent = 5\n[guard.nightly]\nrefuse = \"2d\"\n",
        "[guard.disk-var]\nwarn_percent = 30\n[guard.clock]\noff = true\n[guard.disk-root]\nkind = \"users\"\n",
    ]);
    assert_eq!(config.operators, ["cy"]);
    let guards = &config.settings.guards;
    let var = Check::Disk { path: "/var".into(), warn_percent: 30.0, refuse_percent: 5.0 };
    assert_eq!(guards["disk-var"].check, var);
    let nightly = Check::Backup {
        kind: Backup::File { path: "/b/*".into() },
        warn: Span::seconds(26 * 3600),
        refuse: Span::seconds(2 * 86_400),
    };
    assert_eq!((&guards["nightly"].check, guards["clock"].off), (&nightly, true));
    assert_eq!(guards["disk-root"].check, Check::Users, "what is built in does not stand in the way of another kind");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (text, warning) in [
        ("[maintenance]\nthen = \"cut\"", "2:1: `then` says nothing without a `deadline`"),
        ("[protect]\nunits = true", "2:1: `units` protects nothing"),
        ("[notify.x]\nkind = \"wall\"\non = []", "3:1: notify `x` is told nothing: `on` names no occasion"),
        (
            "[notify.x]\nkind = \"mail\"\nserver = \"m:25\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nlogin = \"e\"\npassword_file = \"/p\"",
            "6:1: the password goes through the network",
        ),
    ] {
        let found = of(&[text]);
        assert!(found.faults.is_empty(), "{:#?}", found.faults);
        let warnings = said(&found.warnings);
        assert!(warnings.len() == 1 && warnings[0].starts_with(warning), "{warnings:#?}");
    }
}

/// A folder of its own; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ebb-config-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("ebb.toml.d")).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    fn main(&self) -> PathBuf {
        self.0.join("ebb.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn drop_ins_are_read_by_name_and_nothing_else_is() {
    let folder = Folder::new("dropins");
    assert!(read(&folder.main()).is_ok(), "nothing has to be there");
    folder.put("ebb.toml", "[access]\noperators = [\"ana\"]\n[holds]\nforgotten_after = \"1d\"\n");
    folder.put("ebb.toml.d/20.toml", "[access]\noperators = [\"cy\"]\n");
    folder.put("ebb.toml.d/10.toml", "[access]\noperators = [\"bo\"]\n[holds]\nforgotten_after = \"2d\"\n");
    for other in [".30.toml", "40.toml~", "50.conf"] {
        folder.put(&format!("ebb.toml.d/{other}"), "no TOML");
    }
    let config = read(&folder.main()).unwrap();
    assert_eq!(config.operators, ["cy"]);
    assert_eq!(config.settings.holds.forgotten_after, Span::seconds(2 * 86_400));
}

#[test]
fn what_is_there_and_cannot_be_read_is_a_fault_beside_the_others() {
    let folder = Folder::new("unread");
    folder.put("ebb.toml", "systemd = 1\n");
    std::fs::create_dir(folder.0.join("ebb.toml.d/10.toml")).unwrap();
    folder.put("ebb.toml.d/20.toml", b"a = 1\n b = \"\xff\"\n");
    let error = read(&folder.main()).unwrap_err();
    let all: Vec<String> = error.faults.iter().map(ToString::to_string).collect();
    let begins = |end: &str| all.iter().any(|one| one.contains(end));
    assert!(begins("10.toml: it cannot be read: ") && begins("20.toml:2:7: this is no UTF-8"), "{all:#?}");
    assert!(begins("ebb.toml:1:11: ") && all.len() == 3, "{all:#?}");
    assert!(error.to_string().ends_with("(and 2 more)"), "{error}");
}

#[test]
fn a_change_is_seen() {
    let folder = Folder::new("stamp");
    let mut seen = vec![stamp(&folder.main())];
    folder.put("ebb.toml", "systemd = true");
    seen.push(stamp(&folder.main()));
    folder.put("ebb.toml.d/a.toml", "");
    seen.push(stamp(&folder.main()));
    // As editors do it: another file of the same length under the old name.
    folder.put("new", "systemd = fals");
    std::fs::rename(folder.0.join("new"), folder.main()).unwrap();
    seen.push(stamp(&folder.main()));
    std::fs::remove_file(folder.0.join("ebb.toml.d/a.toml")).unwrap();
    seen.push(stamp(&folder.main()));
    assert_eq!(stamp(&folder.main()), seen[4], "and nothing else is");
    for pair in seen.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

fn one(path: &Path, key: &str) -> (String, Option<String>, Option<Origin>) {
    match explain(path, Some(key)) {
        Explained::Settings(settings) if settings.len() == 1 => {
            let setting = settings.into_iter().next().unwrap();
            (setting.key, setting.value, setting.origin)
        }
        other => panic!("{key}: {other:#?}"),
    }
}

#[test]
fn each_key_is_explained_with_its_value_and_its_origin() {
    let folder = Folder::new("explain");
    folder.put(
        "ebb.toml",
        "[guard.disk-root]\n\nwarn_percent = 20\nrefuse_percent = 2.5\n[service.\"a.b\"]\nudp = [1]\n",
    );
    folder.put("ebb.toml.d/1.toml", "[guard.disk-root]\nwarn_percent = 30\n");
    let path = folder.main();
    let at = |name: &str, line| Some(Origin { file: folder.0.join(name), line });
    let explained = |key: &str| one(&path, key);
    assert_eq!(explained("guard.disk-root.warn_percent").1.as_deref(), Some("30"));
    assert_eq!(explained("guard.disk-root.warn_percent").2, at("ebb.toml.d/1.toml", 2));
    assert_eq!(explained("guard.disk-root.refuse_percent").2, at("ebb.toml", 4));
    assert_eq!(
        (explained("guard.disk-root.path").1.as_deref(), explained("guard.disk-root.path").2),
        (Some("\"/\""), None)
    );
    assert_eq!(explained("holds.default_reason"), ("holds.default_reason".into(), None, None));
    assert_eq!(explained("service.a.b.udp").0, "service.\"a.b\".udp");
    let count = |key: Option<&str>| if let Explained::Settings(all) = explain(&path, key) { all.len() } else { 0 };
    assert_eq!((count(Some("holds")), count(Some("guard.disk-root")), count(Some("notify"))), (3, 7, 0));
    assert!(count(None) > 40 && count(Some("guard.disk")) == 0, "a part of a name is no key");
    assert_eq!(explain(&path, Some("guard.disk-roto")), Explained::NoSuchKey(Some("guard.disk-root".into())));
    folder.put("ebb.toml.d/2.toml", "nothing = 1\n");
    assert!(matches!(explain(&path, None), Explained::Faulty(faults) if faults.len() == 1));
}

#[test]
fn no_secret_is_explained_or_quoted() {
    let folder = Folder::new("secrets");
    folder.put(
        "ebb.toml",
        "[notify.x]\nkind = \"webhook\"\nurl = \"https://me:hunter2@chat.example.org/hooks/hunter2?k=hunter2\"\n\
         headers = { Authorization = \"Bearer hunter2\", X = \"file:/etc/ebb/x\" }\n\
         [guard.b]\nkind = \"backup\"\nfrom = \"restic\"\nenvironment = { RESTIC_PASSWORD = \"hunter2\", RESTIC_PASSWORD_FILE = \"/p\" }\n",
    );
    let shown = format!("{:?}", explain(&folder.main(), None));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("https://chat.example.org/...") && shown.contains("file:/etc/ebb/x") && shown.contains("/p")
    );
    let faults = of(&["[notify.x]\nkind = \"webhook\"\nurl = \"hunter2\"\nheaders = \"hunter2\"\n"]).faults;
    assert!(faults.len() == 2 && !format!("{faults:?}").contains("hunter2"), "{faults:#?}");
}

#[test]
fn the_page_has_each_key_with_its_kinds_and_its_default_and_no_other() {
    let section = |title: &str| {
        let after = PAGE.split_once(&format!("## {title}\n")).unwrap_or_else(|| panic!("no section {title}")).1;
        after.split_once("\n## ").map_or(after, |(section, _)| section)
    };
    let mut rows = 0;
    let mut key = |title: &str, key: &schema::Key, kinds: bool| {
        let default = match (key.needed, key.default) {
            (true, _) => "needed".to_owned(),
            (false, Some(default)) => format!("`{default}`"),
            // The model's own list is long.
            (false, None) if key.name == "server_leaves_open" => return rows += 1,
            (false, None) => "none".to_owned(),
        };
        let of = if key.kinds.is_empty() { "all".to_owned() } else { key.kinds.join(", ") };
        let row = if kinds {
            format!("| `{}` | {default} | {of} | ", key.name)
        } else {
            format!("| `{}` | {default} | ", key.name)
        };
        assert!(section(title).contains(&row), "docs/configuration.md, {title}, lacks: {row}");
        rows += 1;
    };
    TOP.iter().for_each(|one| key("Top", one, false));
    for table in &TABLES {
        let kinds = table.keys.iter().any(|key| key.name == "kind");
        table.keys.iter().for_each(|one| key(&table.title(), one, kinds));
    }
    assert_eq!(PAGE.lines().filter(|line| line.starts_with("| `")).count(), rows, "a row of no key");
    let words = schema::GUARDS.iter().chain(&schema::BACKUPS).chain(&schema::WAYS);
    words.for_each(|word| assert!(PAGE.contains(&format!("`{word}`")), "{word}"));
    for (name, _) in config(&[""]).settings.guards {
        assert!(PAGE.contains(&format!("`{name}`")), "{name}");
    }
}

/// Whatever is done to it: it is read, or refused with places that are in it.
fn damaged(text: &str) -> bool {
    let found = of(&[text]);
    let lines: Vec<usize> = text.split('\n').map(|line| line.chars().count()).collect();
    for fault in found.faults.iter().chain(&found.warnings) {
        let (line, column) = fault.at.unwrap_or_default();
        let length = lines.get(line.wrapping_sub(1));
        assert!(length.is_some_and(|length| (1..=length + 1).contains(&column)), "{fault}\n{text}");
        assert!(fault.file == Path::new("ebb.toml") && !fault.what.is_empty(), "{fault}\n{text}");
    }
    if found.faults.is_empty() {
        let config = build::config(&found.tree);
        assert!(config.settings.guards.values().all(|guard| guard.timeout > Span::ZERO), "{text}");
    }
    found.faults.is_empty()
}

#[test]
fn any_damage_of_one_character_is_found_or_is_none() {
    let (mut whole, mut refused) = (0, 0);
    for (at, c) in EXAMPLE.char_indices() {
        let (before, after) = (&EXAMPLE[..at], &EXAMPLE[at + c.len_utf8()..]);
        // In a comment nothing is to be seen but its end.
        let comment = before.rsplit('\n').next().is_some_and(|line| line.starts_with('#'));
        let others: &[&str] = if comment { &["", "\n"] } else { &["", "\"", "]", "=", "\n", "é"] };
        for other in others {
            let fine = damaged(&format!("{before}{other}{after}"));
            *(if fine { &mut whole } else { &mut refused }) += 1;
        }
    }
    assert!(whole > 1000 && refused > 2000, "{whole} {refused}");
}

#[test]
fn random_pieces_in_random_order_never_end_us() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % sides as u64).unwrap()
    };
    let pieces: Vec<&str> = EXAMPLE.split_inclusive(['\n', ' ', '"', '=', '.', '[', ']', ',']).collect();
    for _ in 0..500 {
        let count = 1 + dice(40);
        let text: String = (0..count).map(|_| pieces[dice(pieces.len())]).collect();
        damaged(&text);
        damaged(&text.repeat(2));
    }
    for deep in ["[".repeat(5000), "a.".repeat(5000), "a = {b = ".repeat(500), format!("a = {}", "[".repeat(5000))] {
        assert!(!damaged(&deep));
    }
}
