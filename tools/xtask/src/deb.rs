//! `cargo xtask deb`: a Debian package, made by plain `dpkg-deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::tool;

/// What is asked for.
#[derive(Debug, Default)]
struct Wanted {
    /// The program; without one it is built for release.
    binary: Option<PathBuf>,
    /// Where the package is put; `target` if none.
    out: Option<PathBuf>,
    /// Another version than the workspace's.
    version: Option<String>,
    /// Not compressed: for tests.
    quick: bool,
}

/// Files of `packaging/` as they are, and where the package has them.
const AS_THEY_ARE: [(&str, &str, u32); 6] = [
    ("ebb-agent.service", "usr/lib/systemd/system/ebb-agent.service", 0o644),
    ("ebb-gate.service", "usr/lib/systemd/system/ebb-gate.service", 0o644),
    ("ebb.catalog", "usr/lib/systemd/catalog/ebb.catalog", 0o644),
    ("ebb.sysusers", "usr/lib/sysusers.d/ebb.conf", 0o644),
    ("kamailio/ebb.cfg", "usr/share/ebb/kamailio.cfg", 0o644),
    ("policy-rc.d", "usr/lib/ebb/policy-rc.d", 0o755),
];

const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/ebb"),
    ("zsh", "usr/share/zsh/vendor-completions/_ebb"),
    ("fish", "usr/share/fish/vendor_completions.d/ebb.fish"),
];

/// Makes the package and prints where it is.
pub fn run(arguments: &[&str]) -> Result<ExitCode, String> {
    let wanted = parse(arguments)?;
    let root = tool::root()?;
    let binary = match &wanted.binary {
        Some(binary) => binary.clone(),
        None => built(&root)?,
    };
    let version = match &wanted.version {
        Some(version) => version.clone(),
        None => workspace_version(&root)?,
    };
    let architecture = tool::output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let out = wanted.out.unwrap_or_else(|| root.join("target"));
    let package = out.join(format!("ebb_{version}_{architecture}.deb"));
    let tree = out.join(format!("ebb_{version}_{architecture}.{}", std::process::id()));
    let made = fill(&root, &tree, &binary, &version)
        .and_then(|()| control(&root, &tree, &binary, &version, &architecture))
        .and_then(|()| pack(&root, &tree, &package, wanted.quick));
    // Also of what went wrong nothing is left.
    let _ = fs::remove_dir_all(&tree);
    made?;
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

fn parse(arguments: &[&str]) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value =
            || rest.next().map(|value| (*value).to_owned()).ok_or(format!("read {argument}: it needs a value"));
        match *argument {
            "--binary" => wanted.binary = Some(value()?.into()),
            "--out" => wanted.out = Some(value()?.into()),
            "--version" => wanted.version = Some(value()?),
            "--quick" => wanted.quick = true,
            other => return Err(format!("make a package: `{other}` is none of --binary, --out, --version, --quick")),
        }
    }
    Ok(wanted)
}

fn built(root: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new(tool::cargo());
    let status = cargo.args(["build", "--release", "--package", "ebb"]).current_dir(root).status();
    if !status.map_err(|error| format!("start cargo: {error}"))?.success() {
        return Err("build the program".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/ebb"))
}

fn workspace_version(root: &Path) -> Result<String, String> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| "find the version in Cargo.toml".to_owned())
}

/// Everything that is installed.
fn fill(root: &Path, tree: &Path, binary: &Path, version: &str) -> Result<(), String> {
    let program = fs::read(binary).map_err(|error| format!("read {}: {error}", binary.display()))?;
    put(tree, "usr/bin/ebb", &program, 0o755)?;
    for (from, to, mode) in AS_THEY_ARE {
        put(tree, to, read(&root.join("packaging").join(from))?.as_bytes(), mode)?;
    }
    for (shell, to) in COMPLETIONS {
        let text = tool::output(Command::new(binary).args(["completions", shell]))?;
        put(tree, to, text.as_bytes(), 0o644)?;
    }
    let pages = tree.join("usr/share/man/man1");
    make_dir(&pages)?;
    tool::output(Command::new(binary).arg("man").arg(&pages))?;
    let doc = "usr/share/doc/ebb";
    put(tree, &format!("{doc}/copyright"), read(&root.join("packaging/debian/copyright"))?.as_bytes(), 0o644)?;
    put(tree, &format!("{doc}/CHANGELOG.md"), read(&root.join("CHANGELOG.md"))?.as_bytes(), 0o644)?;
    put(tree, &format!("{doc}/changelog"), changelog(root, version)?.as_bytes(), 0o644)?;
    let mut gzip = Command::new("gzip");
    gzip.arg("-9n").args(["changelog", "CHANGELOG.md"].map(|name| tree.join(doc).join(name)));
    for entry in fs::read_dir(&pages).map_err(|error| format!("read {}: {error}", pages.display()))?.flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644))
            .map_err(|error| format!("set the mode of {}: {error}", entry.path().display()))?;
        gzip.arg(entry.path());
    }
    tool::output(&mut gzip).map(drop)
}

/// In the form that Debian's tools read; what has changed is told beside it.
fn changelog(root: &Path, version: &str) -> Result<String, String> {
    let at = commit_time(root).unwrap_or_else(|| "0".to_owned());
    let date = tool::output(Command::new("date").args(["-u", "-R", "-d", &format!("@{at}")]).env("LC_ALL", "C"))?;
    let maintainer = read(&root.join("packaging/debian/control"))?;
    let maintainer = maintainer.lines().find_map(|line| line.strip_prefix("Maintainer: ")).unwrap_or_default();
    let text = "  * What has changed: CHANGELOG.md.gz beside this file.";
    Ok(format!("ebb ({version}) unstable; urgency=medium\n\n{text}\n\n -- {maintainer}  {}\n", date.trim()))
}

/// Of the newest commit, in seconds: the same commit makes the same package.
fn commit_time(root: &Path) -> Option<String> {
    let log = tool::output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root)).ok()?;
    Some(log.trim().to_owned()).filter(|at| !at.is_empty())
}

/// What dpkg reads.
fn control(root: &Path, tree: &Path, binary: &Path, version: &str, architecture: &str) -> Result<(), String> {
    let packaging = root.join("packaging/debian");
    let size = tool::output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    let program = fs::read(binary).map_err(|error| format!("read {}: {error}", binary.display()))?;
    let text = read(&packaging.join("control"))?
        .replace("@VERSION@", version)
        .replace("@ARCH@", architecture)
        .replace("@SIZE@", size.split_whitespace().next().unwrap_or("0"))
        .replace("@GLIBC@", &glibc(&program));
    put(tree, "DEBIAN/control", text.as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(tree, &format!("DEBIAN/{script}"), read(&packaging.join(script))?.as_bytes(), 0o755)?;
    }
    let sums = "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
    let sums = tool::output(Command::new("sh").args(["-c", sums]).current_dir(tree))?;
    put(tree, "DEBIAN/md5sums", sums.as_bytes(), 0o644)
}

/// The newest version of the C library of which the program uses a symbol.
fn glibc(program: &[u8]) -> String {
    const MARK: &[u8] = b"GLIBC_2.";
    let minor_at = |at: usize| {
        let digits: String =
            program[at..].iter().take_while(|byte| byte.is_ascii_digit()).map(|b| char::from(*b)).collect();
        digits.parse::<u32>().ok()
    };
    let found = program.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let newest = found.filter_map(|(at, _)| minor_at(at + MARK.len())).max();
    format!("2.{}", newest.unwrap_or(36))
}

fn pack(root: &Path, tree: &Path, package: &Path, quick: bool) -> Result<(), String> {
    let mut dpkg_deb = Command::new("dpkg-deb");
    if let Some(at) = commit_time(root) {
        dpkg_deb.env("SOURCE_DATE_EPOCH", at);
    }
    dpkg_deb.args(["--root-owner-group", if quick { "-Znone" } else { "-Zxz" }, "--build"]).arg(tree).arg(package);
    tool::output(&mut dpkg_deb).map(drop)
}

fn put(tree: &Path, to: &str, content: &[u8], mode: u32) -> Result<(), String> {
    let path = tree.join(to);
    path.parent().map_or(Ok(()), make_dir)?;
    let written = fs::write(&path, content).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
    written.map_err(|error| format!("write {}: {error}", path.display()))
}

/// With the modes of a system's directories, whatever our umask is.
fn make_dir(dir: &Path) -> Result<(), String> {
    if dir.is_dir() {
        return Ok(());
    }
    dir.parent().map_or(Ok(()), make_dir)?;
    let made = fs::create_dir(dir).and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o755)));
    made.map_err(|error| format!("make {}: {error}", dir.display()))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        assert_eq!(glibc(b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.4\0GLIBC_PRIVATE"), "2.34");
    }

    #[test]
    fn arguments_are_read_or_refused() {
        let wanted = parse(&["--version", "9", "--quick"]).unwrap();
        assert_eq!((wanted.version.as_deref(), wanted.quick), (Some("9"), true));
        assert!(parse(&["--version"]).is_err() && parse(&["--fast"]).is_err());
    }
}
