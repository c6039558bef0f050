//! What processes use: CPU time and memory, from `/proc`.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Clock ticks a second in which `/proc` counts; 100 on every Linux seen.
const TICKS: f64 = 100.0;

/// Seconds of CPU that a process with one thread has used, to the nanosecond.
pub fn of_single_thread(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))?;
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.map(|ns| ns / 1e9).ok_or_else(|| format!("understand {path}: {text}"))
}

/// Seconds of CPU that a process has used with all its threads, to 10 ms.
pub fn of_process(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    ticks(&path, 11).map(|ticks| ticks / TICKS)
}

/// Seconds of CPU that our children have used which have ended and were waited for, to 10 ms.
fn of_ended_children() -> Result<f64, String> {
    ticks("/proc/self/stat", 13).map(|ticks| ticks / TICKS)
}

/// User and system time from `stat`; `at`: the place of the first, counted after the name in brackets.
fn ticks(path: &str, at: usize) -> Result<f64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))?;
    let (_, fields) = text.rsplit_once(") ").ok_or_else(|| format!("understand {path}"))?;
    let two = fields.split(' ').skip(at).take(2).map(str::parse::<f64>);
    two.sum::<Result<f64, _>>().map_err(|error| format!("understand {path}: {error}"))
}

/// What one or several runs of a program used.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// CPU seconds in all.
    pub cpu: f64,
    /// Wall seconds of each.
    pub wall: Vec<f64>,
    /// Largest resident size, in MiB.
    pub memory: f64,
}

impl Used {
    /// Runs a program to its end, with its output thrown away, and adds what it used.
    pub fn add(&mut self, mut command: Command) -> Result<(), String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let before = of_ended_children()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        let output = child.wait_with_output().map_err(|error| format!("wait for {name}: {error}"))?;
        self.wall.push(began.elapsed().as_secs_f64());
        self.cpu += of_ended_children()? - before;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("run {name} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// As [`add`](Self::add), and watches its memory. The kernel keeps the peak: only what is taken in the last
    /// millisecond can be missed. The watching costs: take time from other runs.
    pub fn add_memory(&mut self, mut command: Command) -> Result<(), String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        self.memory = self.memory.max(peak(&mut child, &name)?);
        Ok(())
    }
}

fn peak(child: &mut Child, name: &str) -> Result<f64, String> {
    let mut peak = 0.0;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| format!("wait for {name}: {error}"))? {
            return if status.success() { Ok(peak) } else { Err(format!("run {name}: {status}")) };
        }
        peak = resident_peak(child.id()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What of the memory is a process's own or its part of what is shared (PSS), in MiB.
pub fn proportional(pid: u32) -> Option<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The largest resident size a process has had, in MiB.
pub fn resident_peak(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_can_be_read() {
        let own = std::process::id();
        assert!(of_single_thread(own).unwrap() > 0.0 && of_process(own).unwrap() >= 0.0);
        assert!(of_ended_children().unwrap() >= 0.0 && resident_peak(own).unwrap() > 0.1);
        assert!(proportional(own).unwrap() > 0.1);
        let mut used = Used::default();
        used.add(Command::new("true")).unwrap();
        assert!(used.wall.len() == 1 && used.add(Command::new("false")).is_err());
    }
}
