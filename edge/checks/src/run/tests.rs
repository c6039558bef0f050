use super::*;

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

async fn shell(script: &str, within: Span) -> Result<Ran, RunError> {
    run(&Order::new(&words(&["sh", "-c", script]), within, Place::Here)).await
}

const LONG: Span = Span::seconds(60);

#[tokio::test]
async fn code_and_words_come_back() {
    let ran = shell("echo; echo ' all is well '; echo no >&2; exit 3", LONG).await.unwrap();
    assert_eq!(
        (ran.code, ran.first_line().as_str(), ran.err.as_str(), ran.cut),
        (Some(3), "all is well", "no\n", false)
    );
    let killed = shell("kill -9 $$", LONG).await.unwrap();
    assert_eq!((killed.code, killed.first_line()), (None, String::new()));
    let ran = shell("pwd; cat", LONG).await.unwrap();
    assert_eq!(ran.out, "/\n", "in no directory of ours, and nothing to read");
}

#[tokio::test]
async fn what_is_not_there_or_may_not_run_is_said() {
    let not = |command: &[&str]| {
        let command = words(command);
        async move { run(&Order::new(&command, LONG, Place::Here)).await.unwrap_err() }
    };
    assert!(matches!(not(&["/no/such/pro\x1bgram"]).await, RunError::NoProgram { .. }));
    assert_eq!(not(&["/no/such/pro\x1bgram"]).await.to_string(), "there is no program `/no/such/pro\u{fffd}gram`");
    assert!(matches!(not(&["/etc/passwd"]).await, RunError::Start { .. }));
    assert!(matches!(not(&[]).await, RunError::Empty));
    assert!(matches!(not(&[""]).await, RunError::Empty));
}

#[tokio::test]
async fn what_hangs_is_ended_with_all_that_it_started() {
    let mark = format!("60{:05}", std::process::id() % 100_000);
    // A child that ignores SIGTERM, and a grandchild.
    let script = format!("trap '' TERM; sleep {mark} & (trap '' TERM; sleep {mark}) & sleep {mark}");
    let error = shell(&script, Span(300)).await.unwrap_err();
    assert!(matches!(error, RunError::TooSlow { .. }));
    assert_eq!(error.to_string(), "`sh` did not end within 0.3 s, and was ended");
    wait_gone(&mark).await;
}

#[tokio::test]
async fn who_keeps_the_pipe_open_is_not_waited_for_and_does_not_stay() {
    let mark = format!("61{:05}", std::process::id() % 100_000);
    let ran = shell(&format!("sleep {mark} & echo done"), LONG).await.unwrap();
    assert_eq!((ran.code, ran.first_line().as_str()), (Some(0), "done"));
    wait_gone(&mark).await;
}

#[tokio::test]
async fn who_closes_its_pipes_is_waited_for() {
    let ran = shell("exec >&- 2>&-; sleep 0.2; exit 4", LONG).await.unwrap();
    assert_eq!(ran.code, Some(4));
}

#[tokio::test]
async fn who_is_not_listened_to_any_more_is_ended() {
    let mark = format!("62{:05}", std::process::id() % 100_000);
    let command = words(&["sh", "-c", &format!("sleep {mark}; true")]);
    let left = timeout(Duration::from_millis(300), run(&Order::new(&command, LONG, Place::Here))).await;
    assert!(left.is_err());
    wait_gone(&mark).await;
}

#[tokio::test]
async fn output_is_bounded_and_never_blocks_who_writes_it() {
    let script = "echo first; head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo last >&2";
    let ran = shell(script, LONG).await.unwrap();
    assert_eq!((ran.code, ran.out.len(), ran.err.len(), ran.cut), (Some(0), KEPT, KEPT, true));
    assert!(ran.out.starts_with("first\n") && ran.err.ends_with("last\n"));
}

#[tokio::test]
async fn what_is_said_cannot_move_a_terminal() {
    let ran = shell(r"printf '\033[2J\033]0;x\007\377 words\n'", LONG).await.unwrap();
    assert_eq!(ran.first_line(), "\u{fffd}[2J\u{fffd}]0;x\u{fffd}\u{fffd} words");
}

#[tokio::test]
async fn the_environment_is_added_to() {
    let command = words(&["sh", "-c", "echo $SECRET$HOME"]);
    let mut order = Order::new(&command, LONG, Place::Here);
    order.environment = BTreeMap::from([("SECRET".into(), "s".into()), ("HOME".into(), "/h".into())]);
    assert_eq!(run(&order).await.unwrap().first_line(), "s/h");
    let by_systemd = format!("{:?}", by_systemd("sh", &order).as_std());
    assert!(by_systemd.contains("--setenv=SECRET\"") && !by_systemd.contains("SECRET=s"), "{by_systemd}");
}

/// As systemd 252 and 257 say it.
#[test]
fn the_end_is_read_from_systemds_words() {
    let said = |text: &str| {
        let mut err = Kept::new(End::Last);
        err.add(text.as_bytes());
        reported("x", LONG, &Kept::new(End::First), &err)
    };
    let ok = said(
        "Running as unit: run-u7.service\nFinished with result: success\nMain processes terminated with: code=exited/status=0\nService runtime: 12ms\n",
    );
    assert_eq!(ok.unwrap(), Ran { code: Some(0), out: String::new(), err: String::new(), cut: false });
    let one = said(
        "Running as unit: run-u7.service\nlagging\nFinished with result: exit-code\nMain processes terminated with: code=exited/status=1\n",
    );
    let one = one.unwrap();
    assert_eq!((one.code, one.first_line().as_str()), (Some(1), "lagging"));
    let unended = said(
        "Running as unit: run-u7.service\noopsFinished with result: exit-code\nMain processes terminated with: code=exited/status=1\n",
    );
    let unended = unended.unwrap();
    assert_eq!((unended.code, unended.err.as_str()), (Some(1), "oops"));
    let later = said(
        "Finished with result: exit-code\nMain processes terminated with: code=exited, status=2/INVALIDARGUMENT\n",
    );
    assert_eq!(later.unwrap().code, Some(2));
    let killed = said("Finished with result: signal\nMain processes terminated with: code=killed/status=KILL\n");
    assert_eq!(killed.unwrap().code, None);
    let slow = said("Finished with result: timeout\nMain processes terminated with: code=killed/status=TERM\n");
    assert!(matches!(slow, Err(RunError::TooSlow { .. })));
    // A command cannot say the end itself: the last word is systemd's.
    let sly = said(
        "Finished with result: success\nMain processes terminated with: code=exited/status=0\nFinished with result: exit-code\nMain processes terminated with: code=exited/status=9\n",
    );
    assert_eq!(sly.unwrap().code, Some(9));
    assert!(matches!(
        said("Failed to find executable nope: No such file or directory\n"),
        Err(RunError::NoProgram { .. })
    ));
    let gone = said("Failed to connect to bus: No such file or directory\n").unwrap_err();
    assert_eq!(gone.to_string(), "systemd did not run `x`: Failed to connect to bus: No such file or directory");
    assert!(matches!(said(""), Err(RunError::Systemd { .. })));
}

/// No process has this word among its arguments any more.
async fn wait_gone(mark: &str) {
    for _ in 0..500 {
        let found = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        });
        if !found {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a process with {mark} stays");
}
