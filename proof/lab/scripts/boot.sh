#!/bin/bash
# The firmware of one server: boot.sh SERVER_DIR BASE HOSTNAME KEPT_BACK
# Started inside fresh mount, uts, ipc, pid, cgroup and time namespaces; ends as systemd, PID 1 of the server.
set -eu
dir=$1 base=$2 name=$3 kept_back=$4

# /proc is still the outer one, so this is the number by which the machine knows the future PID 1.
read -r pid _ </proc/self/stat
printf '%s\n' "$pid" >"$dir/pid.new"
mv "$dir/pid.new" "$dir/pid"
# Without a boot_id of its own "has it rebooted?" and `journalctl -b` would see the machine's.
cat /proc/sys/kernel/random/uuid >"$dir/boot_id"

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"

mount -t proc -o nosuid,nodev,noexec proc proc
# Read-only but for the network's part, which belongs to the server: else systemd-sysctl changes the machine.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then # not every kernel has it
  mount --bind proc/sysrq-trigger proc/sysrq-trigger
  mount -o remount,bind,ro proc/sysrq-trigger
fi
mount --bind "$dir/boot_id" proc/sys/kernel/random/boot_id
mount -o remount,bind,ro proc/sys/kernel/random/boot_id

mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 sys/fs/cgroup
mount -t bpf -o nosuid,nodev,noexec bpf sys/fs/bpf

# An own /dev: no disks, no kmsg.
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp

hostname "$name"
pivot_root . .
umount -l .
cd /
# The clock, the modules and the raw hardware are the machine's.
exec env -i container=nspawn LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . setpriv --bounding-set "$kept_back" /lib/systemd/systemd --system
