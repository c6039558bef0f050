//! kill -9 of the resident agent after each thing it does in a maintenance, one after the other, until the maintenance
//! runs through: the next agent comes to the same end, no step is done twice, and no newcomer is let in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ebb_exact::{
    Crowd, CrowdSpec, Daemon, Ebb, KnockSpec, Knocks, Listen, Met, Net, ServeSpec, Stepped, Watched, meet, server4,
    told,
};

const LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: u32 = 5;
/// More steps than this mean that it does not end.
const MOST: usize = 120;
/// Kills are tried side by side.
const LANES: usize = 4;
const START: [&str; 6] = ["maintenance", "start", "--reason", "disks", "--watch", "0s"];
const FINISH: [&str; 2] = ["maintenance", "finish"];

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

struct Scene {
    net: Net,
    alpha: Daemon,
    crowd: Crowd,
    living: bool,
    ebb: Ebb,
}

fn serve(net: &Net) -> Daemon {
    Daemon::named(net, "alpha", &ServeSpec::at([Listen::tcp(at())]))
}

fn scene() -> Option<Scene> {
    let net = Net::new()?;
    let alpha = serve(&net);
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    Some(Scene { net, alpha, crowd, living: true, ebb })
}

/// How it went until the agent stood still, or was through.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stood {
    OnTheWayOut,
    OnTheWayBack,
    Never,
}

impl Scene {
    fn serves(&self) {
        let began = Instant::now();
        while UnixStream::connect(self.ebb.socket()).is_err() {
            assert!(began.elapsed() < LIMIT, "no agent");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_refused(&self) -> bool {
        meet(&self.net.client, at()) == Met::Refused
    }

    fn clients_leave(&mut self) {
        if std::mem::take(&mut self.living) {
            self.crowd.end(CLIENTS);
        }
    }

    /// Until the agent stands still, or this command has ended. True if it stands.
    fn until_it_stands(&mut self, agent: &Stepped, words: &[&str]) -> bool {
        let mut viewer = self.ebb.watch(words);
        let began = Instant::now();
        while !agent.stands() && viewer.is_running() {
            if self.living && self.is_refused() {
                self.clients_leave();
            }
            assert!(began.elapsed() < LIMIT, "it does not go on after {:?}", agent.steps());
            std::thread::sleep(Duration::from_millis(10));
        }
        agent.stands()
    }

    fn walk(&mut self, agent: &Stepped, last: usize) -> Stood {
        agent.stand_after(last);
        if self.until_it_stands(agent, &START) {
            return Stood::OnTheWayOut;
        }
        self.alpha = serve(&self.net);
        if self.until_it_stands(agent, &FINISH) { Stood::OnTheWayBack } else { Stood::Never }
    }

    /// Its state, as soon as it rests: `in_work`, `halted`, `over`, or nothing at all.
    fn rests(&self) -> String {
        let began = Instant::now();
        loop {
            let status = self.ebb.done(&["maintenance", "status"]);
            let state = status.all("maintenance").next().and_then(|run| run["state"].as_str()).unwrap_or_default();
            if ["", "in_work", "halted", "over"].contains(&state) {
                return state.to_owned();
            }
            assert!(began.elapsed() < LIMIT, "{status:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The second agent comes to the work.
    fn out(&mut self) {
        let refused = self.is_refused();
        // Whoever is refused now never comes in.
        let knock = KnockSpec { to: vec![at()], threads: 1, stay: false };
        let knocks = refused.then(|| Knocks::start(&self.net, 1, &knock));
        let _second = self.agent();
        self.clients_leave();
        if self.rests().is_empty() {
            assert!(knocks.is_none(), "refused by a maintenance that nobody knows");
            self.ebb.done(&START);
        }
        assert_eq!(self.rests(), "in_work");
        assert!(self.is_refused() && !self.alpha.is_running());
        if let Some(knocked) = knocks.map(Knocks::stop) {
            assert_eq!((knocked.served, knocked.broken), (0, 0), "{knocked:?}");
            assert!(knocked.refused > 0, "{knocked:?}");
        }
        self.alpha = serve(&self.net);
        assert!(self.is_refused());
        self.ebb.done(&FINISH);
        self.is_back();
    }

    fn back(&mut self) {
        let refused = self.is_refused();
        let _second = self.agent();
        assert!(refused || self.ebb.done(&["holds"]).all("hold").count() == 0, "open with a hold on disk");
        match self.rests().as_str() {
            "over" => {}
            "in_work" => drop(self.ebb.done(&FINISH)),
            other => panic!("{other} on the way back"),
        }
        self.is_back();
    }

    fn is_back(&mut self) {
        assert_eq!(self.rests(), "over");
        assert_eq!(meet(&self.net.client, at()), Met::Connected);
        assert!(self.alpha.is_running());
        assert_eq!(self.crowd.tally().lost, 0);
        assert_eq!(self.ebb.done(&["holds"]).all("hold").count(), 0);
        assert_eq!(self.net.run(&self.net.server, &["nft", "list", "ruleset"]), "");
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.ebb.done(&["events", "--last", "1000"]).events() {
            *count.entry(name.to_owned()).or_default() += 1;
        }
        for (name, least) in [
            ("MaintenanceBegan", 1),
            ("HoldPlaced", 0),
            ("GateShut", 0),
            ("ServiceStopped", 1),
            ("HoldReleased", 0),
            ("MaintenanceFinished", 1),
        ] {
            let times = count.get(name).copied().unwrap_or(0);
            assert!((least..=1).contains(&times), "{name} {times} times: {count:?}");
        }
    }

    fn agent(&self) -> Watched {
        let agent = self.ebb.watch(&["agent"]);
        self.serves();
        agent
    }
}

/// A maintenance whose agent is killed after its step `last`; what that step was. None: it had fewer steps.
fn killed_after(last: usize) -> Option<(Stood, &'static str)> {
    let mut scene = scene()?;
    let mut first = scene.ebb.stepped();
    scene.serves();
    let stood = scene.walk(&first, last);
    let steps = first.steps();
    first.kill();
    match stood {
        Stood::OnTheWayOut => scene.out(),
        Stood::OnTheWayBack => scene.back(),
        Stood::Never => {
            let _second = scene.agent();
            scene.is_back();
            return None;
        }
    }
    steps.last().map(|step| (stood, *step))
}

#[test]
fn killed_after_each_step_of_a_maintenance_it_comes_to_the_same_end() {
    if scene().is_none() {
        return;
    }
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            std::thread::spawn(move || {
                let steps = (lane + 1..MOST).step_by(LANES).map_while(killed_after).collect::<Vec<_>>();
                assert!(steps.len() < MOST / LANES, "no end: {steps:?}");
                steps
            })
        })
        .collect();
    let mut all = Vec::new();
    for lane in lanes {
        all.extend(lane.join().expect("a lane of kills"));
    }
    for stood in [Stood::OnTheWayOut, Stood::OnTheWayBack] {
        for step in ["commit of the store", "copy in its place", "firewall changed"] {
            assert!(all.contains(&(stood, step)), "no kill after {step} {stood:?}: {all:?}");
        }
    }
    assert!(all.contains(&(Stood::OnTheWayOut, "service signalled")), "{all:?}");
    told(&format!("{} kills, one after each step of a maintenance", all.len()));
}
