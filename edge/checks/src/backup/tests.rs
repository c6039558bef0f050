//! restic and borg run here, with repositories of their own; what pgBackRest 2.45 and Barman 3.4.0 said was recorded on
//! a Debian 12 with a PostgreSQL 15 that they had just backed up.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use ebb_model::Backup::{self as Kind};
use tools::{barman, pgbackrest, restic, time};

const LONG: Span = Span::seconds(60);

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ebb-checks-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tool(dir: &Path, environment: &BTreeMap<String, String>, command: &[&str]) {
    let out = Command::new(command[0]).args(&command[1..]).current_dir(dir).envs(environment).output().unwrap();
    assert!(out.status.success(), "{command:?}: {out:?}");
}

async fn asked(kind: &Kind) -> Result<Newest, String> {
    match newest(kind, LONG, Place::Here).await? {
        Fact::Backup { at, what } => Ok((at, what)),
        other => panic!("{other:?}"),
    }
}

fn now() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

#[tokio::test]
async fn restic_itself() {
    let dir = Dir::new("restic");
    std::fs::write(dir.0.join("password"), "x").unwrap();
    std::fs::write(dir.0.join("data"), "y").unwrap();
    let environment = BTreeMap::from([
        ("RESTIC_REPOSITORY".to_owned(), dir.file("repository")),
        ("RESTIC_PASSWORD_FILE".to_owned(), dir.file("password")),
    ]);
    let kind = Kind::Restic { environment: environment.clone() };
    let none = asked(&kind).await.unwrap_err();
    assert!(none.starts_with("restic ended with 1: Fatal: unable to open config file"), "{none}");
    tool(&dir.0, &environment, &["restic", "--no-cache", "init"]);
    assert_eq!(asked(&kind).await.unwrap_err(), "the repository has no snapshot");
    tool(&dir.0, &environment, &["restic", "--no-cache", "backup", "--time", "2026-01-02 03:04:05", "data"]);
    let began = now();
    tool(&dir.0, &environment, &["restic", "--no-cache", "backup", "password"]);
    let (at, what) = asked(&kind).await.unwrap();
    assert!((began - 1000..=now()).contains(&at.0), "the newest of two paths: {at:?} {what}");
    assert!(what.starts_with("snapshot ") && what.len() > 12, "{what}");
    std::fs::write(dir.0.join("password"), "wrong").unwrap();
    let wrong = asked(&kind).await.unwrap_err();
    assert!(wrong.starts_with("restic ended with 1: Fatal: wrong password"), "{wrong}");
}

#[tokio::test]
async fn borg_itself() {
    let dir = Dir::new("borg");
    std::fs::write(dir.0.join("data"), "y").unwrap();
    let environment = BTreeMap::from([
        ("BORG_BASE_DIR".to_owned(), dir.file("base")),
        ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK".to_owned(), "yes".to_owned()),
        ("TZ".to_owned(), "Asia/Tokyo".to_owned()),
    ]);
    let repository = dir.file("repository");
    let kind = Kind::Borg { repository: repository.clone(), environment: environment.clone() };
    let none = asked(&kind).await.unwrap_err();
    assert!(none.starts_with("borg ended with 2: Repository ") && none.contains("does not exist"), "{none}");
    tool(&dir.0, &environment, &["borg", "init", "-e", "none", &repository]);
    assert_eq!(asked(&kind).await.unwrap_err(), "the repository has no archive");
    let old = format!("{repository}::old");
    tool(&dir.0, &environment, &["borg", "create", "--timestamp", "2026-01-02T03:04:05", &old, "data"]);
    let began = now();
    tool(&dir.0, &environment, &["borg", "create", &format!("{repository}::new"), "data"]);
    let (at, what) = asked(&kind).await.unwrap();
    assert!((began - 1000..=now()).contains(&at.0), "whatever the time zone: {at:?} {what}");
    assert_eq!(what, "archive new");
}

#[test]
fn pgbackrest_as_it_spoke() {
    let one = include_str!("../../tests/real/pgbackrest-one.json");
    let said = pgbackrest(one, "main").unwrap();
    assert_eq!(said, (Wall(1_795_679_311_000), "backup 20261126-074824F".to_owned()));
    assert_eq!(pgbackrest(one, "other").unwrap_err(), "there is no stanza other");
    let broken = one.replace("\"error\":false", "\"error\":true");
    assert_eq!(pgbackrest(&broken, "main").unwrap_err(), "the stanza has no backup without errors");
    let empty = include_str!("../../tests/real/pgbackrest-empty.json");
    assert_eq!(pgbackrest(empty, "main").unwrap_err(), "stanza main: no valid backups");
    let none = include_str!("../../tests/real/pgbackrest-none.json");
    assert_eq!(pgbackrest(none, "main").unwrap_err(), "stanza main: missing stanza path");
}

#[test]
fn barman_as_it_spoke() {
    let one = include_str!("../../tests/real/barman-one.json");
    assert_eq!(barman(one, "pg").unwrap(), (Wall(1_795_679_414_000), "backup 20261126T075013".to_owned()));
    let failed = one.replace("DONE", "FAILED");
    assert_eq!(barman(&failed, "pg").unwrap_err(), "the server has no backup that is done");
    // With a warning beside it.
    let empty = include_str!("../../tests/real/barman-empty.json");
    assert_eq!(barman(empty, "pg").unwrap_err(), "the server has no backup that is done");
    let nope = include_str!("../../tests/real/barman-nope.json");
    assert_eq!(barman(nope, "nope").unwrap_err(), "barman does not know the server nope");
    assert_eq!(tools::error(nope).unwrap(), "Unknown server 'nope'");
}

#[test]
fn what_makes_no_sense_is_no_backup() {
    for text in ["", "[", "{}", "[{\"time\":\"yesterday\"}]", "[{}]", "5", "\u{1b}[2J"] {
        assert!(restic(text).is_err(), "{text}");
        assert!(tools::borg(text).is_err(), "{text}");
        assert!(pgbackrest(text, "main").is_err(), "{text}");
        assert!(barman(text, "main").is_err(), "{text}");
    }
    assert_eq!(restic("null").unwrap_err(), "the repository has no snapshot");
}

#[test]
fn times_as_they_are_printed() {
    for (text, ms) in [
        ("1795679311", 1_795_679_311_000),
        ("1795679311.5\n", 1_795_679_311_500),
        ("2026-11-26T07:48:31Z", 1_795_679_311_000),
        ("2026-11-26T08:48:31.25+01:00", 1_795_679_311_250),
        ("2026-11-26T07:48:31.000000", 1_795_679_311_000),
    ] {
        assert_eq!(time(text).map(|at| at.0), Ok(ms), "{text}");
    }
    for text in ["", "now", "-5", "NaN", "inf", "1e30", "2026-13-01T00:00:00Z"] {
        assert!(time(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn files_and_commands() {
    let dir = Dir::new("files");
    let kind = Kind::File { path: dir.file("dump-*.gz") };
    assert!(asked(&kind).await.unwrap_err().starts_with("no file that is not empty fits "));
    std::fs::write(dir.0.join("dump-2.gz"), "").unwrap();
    assert!(asked(&kind).await.is_err(), "an empty file is no backup");
    std::fs::write(dir.0.join("dump-1.gz"), "x").unwrap();
    let old = std::fs::File::options().write(true).open(dir.0.join("dump-1.gz")).unwrap();
    old.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1_000)).unwrap();
    assert_eq!(asked(&kind).await.unwrap(), (Wall(1_000_000), dir.file("dump-1.gz")));
    std::fs::write(dir.0.join("dump-2.gz"), "x").unwrap();
    assert_eq!(asked(&kind).await.unwrap().1, dir.file("dump-2.gz"));

    let command = |script: &str| Kind::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() };
    assert_eq!(asked(&command("echo 1000")).await.unwrap().0, Wall(1_000_000));
    assert_eq!(asked(&command("echo 5; echo no >&2; exit 3")).await.unwrap_err(), "sh ended with 3: no");
    assert!(asked(&command("echo soon")).await.is_err());
}
