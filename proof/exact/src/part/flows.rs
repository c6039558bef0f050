//! UDP clients: each a flow, which speaks when told and says whether it was answered.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{Orders, say};
use crate::flows::{Answered, FlowsSpec};
use crate::must;

/// An answer within these namespaces takes microseconds.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn run(spec: &FlowsSpec) {
    let sockets: Vec<UdpSocket> = (0..spec.count)
        .map(|_| {
            let any = if spec.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = must("make a flow", UdpSocket::bind(any));
            must("direct a flow", socket.connect(spec.to));
            must("not block", socket.set_nonblocking(true));
            socket
        })
        .collect();
    let mut orders = Orders::default();
    while let Some(lines) = orders.read() {
        for _ in lines {
            say(&round(spec, &sockets));
        }
    }
}

fn round(spec: &FlowsSpec, sockets: &[UdpSocket]) -> Answered {
    let mut answered = Answered::default();
    let mut waiting = Vec::new();
    for (index, socket) in sockets.iter().enumerate() {
        // An error that an earlier datagram met comes up first.
        let sent = socket.send(&spec.datagram).or_else(|_| socket.send(&spec.datagram));
        match sent {
            Ok(_) => waiting.push(index),
            Err(_) => answered.refused += 1,
        }
    }
    let until = Instant::now() + PATIENCE;
    let mut back = [0; 2048];
    while !waiting.is_empty() && Instant::now() < until {
        waiting.retain(|index| match sockets[*index].recv(&mut back) {
            Ok(length) => {
                answered.answered += u64::from(back[..length] == spec.datagram[..]);
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(_) => {
                answered.refused += 1;
                false
            }
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    answered.silent = waiting.len() as u64;
    answered
}
