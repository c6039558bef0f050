use super::*;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
    40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw\n";

#[test]
fn mounts_of_all_kinds() {
    assert_eq!(mount_point(HYBRID.as_bytes()), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    assert_eq!(mount_point(b"1 2 0:1 / /sys/fs/cgroup rw - cgroup2 x rw\n"), Some(PathBuf::from("/sys/fs/cgroup")));
    assert_eq!(mount_point(b"1 2 0:1 / /a\\040b\\134 rw - cgroup2 x rw\n"), Some(PathBuf::from("/a b\\")));
    assert_eq!(mount_point(b"1 2 0:1 / /cgroup2 rw - ext4 cgroup2 rw\n\n5 6\n"), None);
    let part_first =
        "1 2 0:1 /part /p rw - cgroup2 x rw\n1 2 0:1 / /whole rw - cgroup2 x rw\n1 2 0:1 / /again rw - cgroup2 x rw";
    assert_eq!(mount_point(part_first.as_bytes()), Some(PathBuf::from("/whole")));
}

/// A folder of cgroups of our own, removed at the end; needs root and a writable cgroup2.
struct Own {
    tree: Tree,
    name: String,
}

impl Own {
    fn make(test: &str) -> Option<Self> {
        let tree = Tree::find().unwrap();
        let name = format!("/ebb-test-{test}-{}", std::process::id());
        match std::fs::create_dir(tree.mount().join(&name[1..])) {
            Ok(()) => Some(Self { tree, name }),
            Err(error) => {
                crate::testnet::skipped(&format!("cannot make a cgroup: {error}"));
                None
            }
        }
    }

    fn dir(&self, below: &str) -> PathBuf {
        self.tree.mount().join(&self.name[1..]).join(below)
    }

    fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.name)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Deepest first: the shell's find knows how.
        let _ =
            Command::new("find").arg(self.dir("")).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]).status();
    }
}

#[test]
fn the_tree_is_mapped_both_ways() {
    let map = Map::read().unwrap();
    let tree = Tree::find().unwrap();
    assert_eq!(map.path_of(std::fs::metadata(tree.mount()).unwrap().ino()), Some("/"));
    assert_eq!(map.path_of(u64::MAX), None);
    assert_eq!(tree.id_of("/no/such/cgroup").unwrap(), None);
    assert!(tree.pids_of("/no/such/cgroup", Depth::All).unwrap().is_empty());
    let me = crate::process::read(Pid::current()).unwrap().unwrap().cgroup_path.unwrap();
    assert_eq!(map.id_of(&me), tree.id_of(&me).unwrap());
    assert!(tree.pids_of(&me, Depth::Itself).unwrap().contains(&Pid::current()));
    assert!(map.iter().count() >= 1);
}

#[test]
fn processes_below_and_a_number_that_changes() {
    let Some(own) = Own::make("pids") else { return };
    std::fs::create_dir_all(own.dir("x.service/inner")).unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::new(child.id()).unwrap();
    std::fs::write(own.dir("x.service/inner/cgroup.procs"), pid.to_string()).unwrap();
    let seen = [
        own.tree.pids_of(&own.path("x.service"), Depth::Itself).unwrap(),
        own.tree.pids_of(&own.path("x.service/"), Depth::All).unwrap(),
        own.tree.pids_of(&own.path("x.service/inner"), Depth::Itself).unwrap(),
    ];
    let path_seen = crate::process::read(pid).unwrap().unwrap().cgroup_path;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, [BTreeSet::new(), BTreeSet::from([pid]), BTreeSet::from([pid])]);
    assert_eq!(path_seen, Some(own.path("x.service/inner")));

    let path = own.path("x.service");
    let before = own.tree.id_of(&path).unwrap().unwrap();
    assert_eq!(own.tree.map().unwrap().path_of(before), Some(path.as_str()));
    std::fs::remove_dir(own.dir("x.service/inner")).unwrap();
    std::fs::remove_dir(own.dir("x.service")).unwrap();
    assert_eq!(own.tree.id_of(&path).unwrap(), None);
    assert_eq!(own.tree.map().unwrap().path_of(before), None);
    std::fs::create_dir(own.dir("x.service")).unwrap();
    assert_ne!(own.tree.id_of(&path).unwrap().unwrap(), before, "a restarted unit has a new number");
}

#[test]
fn many_and_deep_with_races() {
    let Some(own) = Own::make("many") else { return };
    for slice in 0..20 {
        for unit in 0..25 {
            std::fs::create_dir_all(own.dir(&format!("s{slice}/u{unit}"))).unwrap();
        }
    }
    let deep = "d/".repeat(100);
    std::fs::create_dir_all(own.dir(&deep)).unwrap();
    let began = std::time::Instant::now();
    let map = own.tree.map().unwrap();
    println!("{} cgroups in {:?}", map.iter().count(), began.elapsed());
    let ours = |path: &str| path.starts_with(&own.name);
    assert_eq!(map.iter().filter(|(_, path)| ours(path)).count(), 1 + 20 + 500 + 100);
    assert!(
        map.iter().filter(|(_, path)| ours(path)).all(|(id, path)| own
            .tree
            .id_of(path)
            .unwrap()
            .is_none_or(|now| now == id))
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let dir = own.dir(&format!("s{}/u{}", round % 20, round % 25));
                std::fs::remove_dir(&dir).unwrap();
                std::fs::create_dir(&dir).unwrap();
            }
        });
        for _ in 0..20 {
            own.tree.map().unwrap();
        }
    });
}
