//! Other people's firewall: byte for byte the same before, while and after; ours is gone after the resume.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4};

const LIMIT: Duration = Duration::from_secs(30);

/// Tables of every family, with what firewalls have in them.
const FOREIGN: &str = "
table inet filter {
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
    map ports {
        type inet_service : verdict
        elements = { 22 : accept, 7000 : accept }
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        ip saddr @blocked drop
        tcp dport vmap @ports
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain output {
        type filter hook output priority filter; policy accept;
    }
}
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        tcp dport 8000 redirect to :7000
    }
}
table ip6 empty { }
table arp watch {
    chain input {
        type filter hook input priority 0; policy accept;
    }
}
table inet ebbtide {
    chain input {
        type filter hook input priority -5;
        tcp dport 9 drop
    }
}
";

/// All rules with their handles; those of our table left out.
fn foreign(net: &Net) -> String {
    let all = net.run(&net.server, &["nft", "-a", "list", "ruleset"]);
    let mut kept = String::new();
    let mut ours = false;
    for line in all.split_inclusive('\n') {
        if line.starts_with("table ") {
            ours = line.starts_with("table inet ebb {");
        }
        if !ours {
            kept.push_str(line);
        }
    }
    kept
}

fn has_ours(net: &Net) -> bool {
    net.run(&net.server, &["nft", "list", "tables"]).lines().any(|line| line == "table inet ebb")
}

#[test]
fn other_tables_stay_as_they_are_and_ours_goes() {
    let Some(net) = Net::new() else { return };
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp("[::]:7000".parse().expect("an address"))]));
    net.nft(&net.server, FOREIGN);
    let before = foreign(&net);
    let (at, redirected): (SocketAddr, SocketAddr) = ((server4(1), 7000).into(), (server4(1), 8000).into());
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at, redirected], 20)]);
    assert_eq!(crowd.all_connected(LIMIT).connected, 20);
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--deadline", "2s"]);
    drain.event("GateProven");
    assert_eq!(foreign(&net), before);
    assert!(has_ours(&net));
    // Accepted by the others, refused by ours; through the redirection too.
    assert_eq!((meet(&net.client, at), meet(&net.client, redirected)), (Met::Refused, Met::Refused));
    let answer = drain.wait(LIMIT);
    assert_eq!((answer.code, answer.one("drained")["at_start"].as_u64()), (Some(3), Some(20)), "{answer:#?}");
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.echoes), (0, 20), "{tally:?}");
    // A second requester: the table stays until the last hold goes.
    ebb.done(&["hold", "exact-part", "--as", "deploy"]);
    assert_eq!(ebb.run(&["resume", "exact-part"]).code, Some(5));
    assert!(has_ours(&net));
    assert_eq!((foreign(&net), meet(&net.client, at)), (before.clone(), Met::Refused));
    ebb.done(&["resume", "exact-part", "--as", "deploy"]);
    assert_eq!((foreign(&net), has_ours(&net)), (before, false));
    assert_eq!((meet(&net.client, at), meet(&net.client, redirected)), (Met::Connected, Met::Connected));
    assert_eq!(crowd.echo(LIMIT).lost, 0);
}
