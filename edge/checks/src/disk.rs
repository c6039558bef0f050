//! Free space and free inodes.

use ebb_model::Fact;

/// Where `path` lies. A file system that hangs holds up a thread, and nobody else.
pub(crate) async fn of(path: &str) -> Result<Fact, String> {
    let at = path.to_owned();
    let read = tokio::task::spawn_blocking(move || rustix::fs::statvfs(at));
    let seen = read.await.map_err(|error| error.to_string())?;
    let seen = seen.map_err(|error| format!("{path}: {}", std::io::Error::from(error)))?;
    // As `df` counts: what is kept for root is neither free nor used.
    let used = seen.f_blocks.saturating_sub(seen.f_bfree);
    let free_percent = percent(seen.f_bavail, used.saturating_add(seen.f_bavail))
        .ok_or_else(|| format!("{path} is on a file system that holds nothing"))?;
    // Some (btrfs) make inodes as they need them, and say none.
    let inodes_free_percent = percent(seen.f_favail, seen.f_files);
    Ok(Fact::Disk { free_percent, inodes_free_percent })
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_df_says() {
        let Ok(Fact::Disk { free_percent, inodes_free_percent }) = of("/tmp").await else { panic!("no disk") };
        let df = std::process::Command::new("df").args(["--output=pcent,ipcent", "/tmp"]).output().unwrap();
        let df = String::from_utf8(df.stdout).unwrap();
        let mut used =
            df.lines().nth(1).unwrap().split_whitespace().map(|part| part.trim_end_matches('%').parse::<f64>());
        // df rounds up, and others write meanwhile.
        assert!((100.0 - free_percent - used.next().unwrap().unwrap()).abs() < 2.0, "{free_percent} {df}");
        match used.next().unwrap() {
            Ok(inodes) => assert!((100.0 - inodes_free_percent.unwrap() - inodes).abs() < 2.0, "{df}"),
            Err(_) => assert_eq!(inodes_free_percent, None),
        }
    }

    #[tokio::test]
    async fn what_holds_nothing_or_is_not_there_is_no_full_disk() {
        assert!(of("/proc").await.unwrap_err().contains("holds nothing"));
        assert_eq!(of("/no/such").await.unwrap_err(), "/no/such: No such file or directory (os error 2)");
    }
}
