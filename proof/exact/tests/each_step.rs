//! kill -9 of the resident agent after each thing it does in a drain, one after the other, until the drain runs through:
//! the next agent comes to the same end, no step is done twice, and no newcomer is let in.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ebb_exact::{
    Crowd, CrowdSpec, Daemon, Ebb, KnockSpec, Knocks, Listen, Met, Net, ServeSpec, Stepped, Watched, meet, server4,
    told,
};

const LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: u32 = 5;
/// A drain takes some twenty steps; more than this means that it does not end.
const MOST: usize = 60;
/// Kills are tried side by side.
const LANES: usize = 4;
const DRAIN: [&str; 4] = ["drain", "exact-part", "--settle", "100ms"];
/// Each happens once, whoever was killed meanwhile.
const ONCE: [&str; 5] = ["HoldPlaced", "DrainBegan", "GateShut", "Drained", "ServiceStopped"];

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

struct Scene {
    net: Net,
    server: Daemon,
    crowd: Crowd,
    ebb: Ebb,
}

fn scene() -> Option<Scene> {
    let net = Net::new()?;
    let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    Some(Scene { net, server, crowd, ebb })
}

impl Scene {
    fn is_refused(&self) -> bool {
        meet(&self.net.client, at()) == Met::Refused
    }

    fn agent(&self) -> Watched {
        let agent = self.ebb.watch(&["agent"]);
        self.serves();
        agent
    }

    fn serves(&self) {
        let began = Instant::now();
        while UnixStream::connect(self.ebb.socket()).is_err() {
            assert!(began.elapsed() < LIMIT, "no agent");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Drains until the agent stands still after its step `last`, or the drain is over. Clients leave before that or,
    /// where `stay` says so, only when nothing more happens without it.
    fn drain_until(&mut self, agent: &Stepped, last: usize, stay: bool) -> bool {
        agent.stand_after(last);
        let mut viewer = self.ebb.watch(&DRAIN);
        let (mut living, mut quiet, mut steps) = (true, Instant::now(), 0);
        while !agent.stands() && viewer.is_running() {
            let now = agent.steps().len();
            if now != steps {
                (steps, quiet) = (now, Instant::now());
            }
            let long = quiet.elapsed() > Duration::from_secs(2);
            if living && (long || !stay) && steps > 0 && self.is_refused() {
                self.crowd.end(CLIENTS);
                living = false;
            }
            assert!(quiet.elapsed() < LIMIT, "it does not go on after {:?}", agent.steps());
            std::thread::sleep(Duration::from_millis(10));
        }
        agent.stands()
    }
}

/// A drain whose agent is killed after its step `last`, and gone on with by another; what that step was. None: it had
/// fewer steps.
fn killed_after(last: usize) -> Option<&'static str> {
    let mut scene = scene()?;
    let mut first = scene.ebb.stepped();
    scene.serves();
    let stood = scene.drain_until(&first, last, last % 2 == 1);
    let steps = first.steps();
    first.kill();
    let knock = KnockSpec { to: vec![at()], threads: 1, stay: false };
    // Whoever is refused now never comes in.
    let mut knocks = scene.is_refused().then(|| Knocks::start(&scene.net, 1, &knock));
    let _second = scene.agent();
    if scene.ebb.done(&["holds"]).all("hold").count() == 0 {
        assert!(knocks.is_none(), "refused without a hold after {steps:?}");
        scene.crowd.end(CLIENTS);
        scene.ebb.done(&DRAIN);
    }
    assert!(scene.is_refused(), "the second agent has shut the gate before it serves");
    let knocks = knocks.take().unwrap_or_else(|| Knocks::start(&scene.net, 1, &knock));
    scene.crowd.end(CLIENTS);
    let watched = scene.ebb.run(&["watch", "exact-part"]);
    let at = || format!("killed after {last}, {steps:?}: {watched:#?}");
    assert_eq!(watched.code, Some(0), "{}", at());
    assert!(!scene.server.is_running(), "{}", at());
    let status = scene.ebb.status("exact-part");
    assert_eq!((&status["service"]["state"], &status["gate"]), (&"stopped".into(), &"shut".into()), "{}", at());
    assert_eq!(scene.ebb.done(&["holds"]).all("hold").count(), 1, "{}", at());
    let events = scene.ebb.done(&["events", "--last", "100"]);
    for name in ONCE {
        let count = events.events().into_iter().filter(|event| *event == name).count();
        assert_eq!(count, 1, "{name} of {:?}, {}", events.events(), at());
    }
    assert!(events.events().contains(&"GateProven"), "{:?}, {}", events.events(), at());
    let (tally, knocked) = (scene.crowd.tally(), knocks.stop());
    assert_eq!(tally.lost, 0, "{tally:?} {}", at());
    assert_eq!((knocked.served, knocked.broken), (0, 0), "{knocked:?} {}", at());
    assert!(knocked.refused > 0, "{knocked:?}");
    if stood { steps.last().copied() } else { None }
}

#[test]
fn killed_after_each_step_it_comes_to_the_same_end() {
    if scene().is_none() {
        return;
    }
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            std::thread::spawn(move || {
                let steps = (lane + 1..).step_by(LANES).map_while(killed_after).collect::<Vec<_>>();
                assert!(steps.len() < MOST / LANES, "no end: {steps:?}");
                steps
            })
        })
        .collect();
    let mut all: Vec<&str> = Vec::new();
    for lane in lanes {
        all.extend(lane.join().expect("a lane of kills"));
    }
    for step in ["commit of the store", "copy in its place", "firewall changed", "service signalled"] {
        assert!(all.contains(&step), "no kill after {step}: {all:?}");
    }
    told(&format!("{} kills, one after each step of a drain", all.len()));
}
