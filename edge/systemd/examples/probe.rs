#![allow(clippy::print_stdout)]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let s = ebb_systemd::Systemd::new();
    for n in std::env::args().skip(1) {
        let u = s.unit(&n.parse().unwrap()).await.unwrap();
        println!("{n}: {:?} {} wrapper={} instances={:?}\n  cg={:?} id={:?} tasks={:?} file={} result={} since={:?}\n  listen={:?} triggered_by={:?}", u.active_state, u.sub_state, u.is_wrapper(), s.instances(&u).await.unwrap().iter().map(|l| l.name.to_string()).collect::<Vec<_>>(), u.control_group, u.control_group_id, u.tasks, u.unit_file_state, u.result, u.active_enter, u.listen, u.triggered_by);
        for w in u.stop_warnings() { println!("  ! {w}"); }
    }
    let t = std::time::Instant::now();
    for _ in 0..100 { s.units().await.unwrap(); }
    println!("units avg {:?}", t.elapsed() / 100);
    let n = "nginx.service".parse().unwrap();
    let t = std::time::Instant::now();
    for _ in 0..100 { s.unit(&n).await.unwrap(); }
    println!("unit avg {:?}", t.elapsed() / 100);
    let t = std::time::Instant::now();
    for _ in 0..20 { s.stop(&n, std::time::Duration::from_secs(9)).await.unwrap(); s.start(&n, std::time::Duration::from_secs(9)).await.unwrap(); }
    println!("stop+start nginx avg {:?}", t.elapsed() / 20);
    let j = ebb_systemd::journal::Journal::open().unwrap();
    let t = std::time::Instant::now();
    for i in 0..100 { j.send(&[("MESSAGE", &format!("m{i}"))]).unwrap(); }
    println!("100 messages {:?}", t.elapsed());
    std::process::Command::new("systemctl").args(["restart", "systemd-journald"]).status().unwrap();
    println!("after journald restart {:?}", j.send(&[("MESSAGE", "after restart")]));
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::process::Command::new("journalctl").args(["-n", "3", "-o", "cat", "_COMM=probe"]).status().unwrap();
    std::process::Command::new("systemctl").args(["show", "--all", "nginx.service", "-p", "ExecStop", "-p", "TimeoutStopUSec"]).status().unwrap();
}
