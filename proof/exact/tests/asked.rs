//! What is asked of a maintenance that stands: nothing happens that was not meant, and there is always a way on.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ebb_exact::{Answer, Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4};

const LIMIT: Duration = Duration::from_secs(40);

fn at(port: u16) -> SocketAddr {
    (server4(1), port).into()
}

fn serve(net: &Net, port: u16) -> Daemon {
    Daemon::named(net, "alpha", &ServeSpec::at([Listen::tcp(at(port))]))
}

fn refused(ebb: &Ebb, words: &[&str], code: i32, says: &str) {
    let answer = ebb.run(words);
    assert_eq!(answer.code, Some(code), "{words:?}: {answer:#?}");
    assert!(
        answer.stderr.contains(says) || answer.notes().iter().any(|note| note.contains(says)),
        "{words:?}: {answer:#?}"
    );
}

fn state(answer: &Answer) -> String {
    answer.one("maintenance")["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_stopped() {
    let Some(net) = Net::new() else { return };
    let mut alpha = serve(&net, 7000);
    let ebb = Ebb::on(&net);
    for (work, code, says) in [
        (&["--reboot"][..], 9, "systemd does not run here"),
        (&["--then", "end"], 2, "--deadline"),
        (&["--", "no-such-program", "-y"], 9, "there is no program `no-such-program`"),
        (&["--", "./upgrade.sh"], 9, "no absolute path"),
        (&["--not", "alpha", "--", "true"], 1, "`true` is not done"),
    ] {
        let words = [&["maintenance", "start", "--reason", "x", "--yes"], work].concat();
        refused(&ebb, &words, code, says);
        assert_eq!(meet(&net.client, at(7000)), Met::Connected, "{work:?}");
    }
    assert!(alpha.is_running());
    let none = ebb.done(&["maintenance", "status"]);
    assert!(none.notes()[0].contains("no maintenance has been made"), "{none:#?}");
}

#[test]
fn only_what_was_planned_is_gone_on_with() {
    let Some(net) = Net::new() else { return };
    let _first = serve(&net, 7000);
    let ebb = Ebb::on(&net);
    let _agent = ebb.agent();
    let start = ["maintenance", "start", "--reason", "x", "--yes"];
    let failing = [&start[..], &["--", "sh", "-c", "echo seen; exit 7"]].concat();
    let halted = ebb.run(&failing);
    assert_eq!((halted.code, state(&halted)), (Some(1), "halted".to_owned()), "{halted:#?}");
    assert!(halted.notes().iter().any(|note| note.contains("| seen")), "{halted:#?}");
    let log = ebb.state_dir().join("work-1.log");
    assert_eq!(std::fs::metadata(log).expect("its output").permissions().mode() & 0o777, 0o600);
    for (other, says) in [
        (&["--drill"][..], "is no drill"),
        (&["--watch", "9s"], "another --watch"),
        (&["--not", "alpha"], "another --not"),
        (&["--in", "5m"], "another --in"),
        (&["--except", "10.0.0.0/8"], "another --except"),
        (&["--for", "1h"], "another --for"),
        (&["--deadline", "1h"], "another --deadline"),
        (&["--", "true"], "has the work `sh -c 'echo seen; exit 7'`, not `true`"),
    ] {
        refused(&ebb, &[&start[..], other].concat(), 1, says);
    }
    refused(&ebb, &["release", "--server", "--as", "maintenance"], 1, "ebb maintenance finish");
    // Another holds the server too: what is stopped now does not come back under their hands.
    ebb.done(&["hold", "--server", "--as", "deploy"]);
    let _moved = serve(&net, 7001);
    let held = ebb.done(&["holds"]);
    let deploy = held.all("hold").find(|hold| hold["requester"] == "deploy").expect("theirs");
    assert!(deploy["covers"].as_array().is_some_and(|covers| covers.iter().any(|name| name == "alpha")), "{held:#?}");
    ebb.done(&["release", "--server", "--as", "deploy"]);
    // It came back at another port: said, and there is a way on.
    let finish = ebb.run(&["maintenance", "finish"]);
    assert_eq!((finish.code, state(&finish)), (Some(1), "halted".to_owned()), "{finish:#?}");
    let text = format!("{finish:#?}");
    assert!(text.contains("--accept-worse") && !text.contains("ebb resume alpha"), "{text}");
    assert_eq!(finish.one("maintenance")["next"], serde_json::json!(["ebb maintenance finish"]), "{finish:#?}");
    let accepted = ["maintenance", "finish", "--accept-worse", "it has moved"];
    let mut viewer = ebb.watch(&accepted);
    viewer.until("the watch", LIMIT, |frame| frame["type"] == "step" && frame["name"] == "watch");
    assert_eq!(meet(&net.client, at(7001)), Met::Connected);
    refused(&ebb, &start, 1, "is being brought back");
    // It would be watched for five minutes: whoever has seen enough ends that.
    let ended = ebb.done(&["maintenance", "finish"]);
    let steps = ended.one("maintenance")["steps"].as_array().cloned().unwrap_or_default();
    let watch = steps.iter().find(|step| step["name"] == "watch").expect("it was watched");
    assert!(watch["text"].as_str().is_some_and(|text| text.starts_with("ended before its time")), "{watch}");
    assert_eq!(viewer.wait(LIMIT).code, Some(0));
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
    assert_eq!(ebb.done(&["doctor"]).code, Some(0));
}
