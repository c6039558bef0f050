#!/bin/bash
# Removes every trace of one lab: sweep.sh LAB_ID CGROUP LAB_DIR
# Waits first for the end of its standard input. The test process holds the other end, so that this runs
# after a normal end, a panic and a SIGKILL alike. Each step tolerates that it is already done.
id=$1 cgroup=$2 dir=$3
[ -n "$id" ] && [ -n "$cgroup" ] && [ -n "$dir" ] || exit 2
read -r _

sweep_groups() {
  [ -d "$cgroup" ] || return 0
  echo 1 >"$cgroup/cgroup.kill"
  if grep -q '^populated 0' "$cgroup/cgroup.events"; then
    find "$cgroup" -depth -type d -exec rmdir {} + && return 0
  fi
  return 1
}
# Bounded: 30 s. Again and again, because a process may be born between the kill and the look.
for ((i = 0; i < 300; i++)); do
  sweep_groups 2>/dev/null && break
  sleep 0.1
done
for path in /run/netns/"$id"-*; do
  [ -e "$path" ] && ip netns delete "${path##*/}" 2>/dev/null
done
# Nothing but the scratch file system of a machine whose disk is itself an overlay.
umount "$dir" 2>/dev/null
rm -rf --one-file-system "$dir"
