#!/bin/sh
# A fresh network namespace on the lab's bridge: plug.sh NETNS BRIDGE_NETNS PORT MAC V4 V6
# The MAC is the caller's, because a neighbour's ARP entry outlives a reboot.
set -eu
ns=$1 net=$2 port=$3 mac=$4 v4=$5 v6=$6
ip netns add "$ns"
ip -n "$net" link add "$port" type veth peer name eth0 address "$mac" netns "$ns"
ip -n "$net" link set "$port" master br0 up
ip -n "$ns" -batch - <<END
link set lo up
address add $v4/24 dev eth0
address add $v6/64 dev eth0 nodad
link set eth0 up
route add default via 10.77.0.254
END
