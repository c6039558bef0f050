//! `wall`: everybody who is logged in to a terminal.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::NotifyError;
use crate::text::Words;

const MISSING: &str = "it is not installed: it comes with bsdutils (Debian, Ubuntu) or util-linux";

pub(crate) async fn send(words: &Words) -> Result<(), NotifyError> {
    if !is_there("wall") {
        return Err(NotifyError::Program { program: "wall", cause: MISSING.to_owned() });
    }
    let text = format!("{}\n\n{}\n", words.subject, words.text);
    // A terminal belongs to who is logged in to it. Our agent may not write to it, nor become somebody who may, as its
    // unit is shipped; and `wall` does not tell whom it could not reach. So systemd runs it, outside of our sandbox.
    let root = rustix::process::geteuid().is_root();
    if root && std::path::Path::new("/run/systemd/system").is_dir() && is_there("systemd-run") {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", "--wait", "--pipe", "--", "wall"]);
        run("systemd-run wall", command, &text).await
    } else {
        run("wall", Command::new("wall"), &text).await
    }
}

async fn run(program: &'static str, mut command: Command, text: &str) -> Result<(), NotifyError> {
    let failed = |cause: String| NotifyError::Program { program, cause };
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it does not read, its exit code and words say why.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
    let done = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = ebb_model::printable(String::from_utf8_lossy(&done.stderr).trim());
    Err(failed(if said.is_empty() { done.status.to_string() } else { said }))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).any(|dir| rustix::fs::access(dir.join(program), rustix::fs::Access::EXEC_OK).is_ok())
}
