#!/bin/bash
# Makes the base image of all servers: base.sh DIRECTORY SUITE
# Runs in mount and pid namespaces of its own, so whatever a package leaves running or mounted ends with it.
# The text of this file is the image's version: any change makes a new image.
set -euo pipefail
dir=$1 suite=$2

packages=(
  systemd systemd-sysv dbus libpam-systemd
  nginx-light openssh-server postgresql haproxy kamailio postfix
  nftables iproute2 curl procps python3 util-linux
)

say() { printf 'ebb-lab: %s\n' "$*" >&2; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 LANG=C.UTF-8
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The mirror and proxy this machine's own apt uses; where it knows none for the suite, debootstrap's default.
# (awk reads to the end: `exit` would close the pipe early, and pipefail would call that an error.)
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
  awk -v s="$suite" '$2 == s && $3 == "main" && !seen { seen = 1; print $1 }')
proxy=
eval "$(apt-config shell proxy Acquire::http::Proxy)"
if [ -n "$proxy" ]; then export http_proxy=$proxy; fi

say "debootstrap minbase $suite"
debootstrap --variant=minbase "$suite" "$dir" ${mirror:+"$mirror"} >"$dir.log" 2>&1

cat >"$dir/etc/dpkg/dpkg.cfg.d/lab" <<'END'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
END
printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
chmod 755 "$dir/usr/sbin/policy-rc.d"
rm -f "$dir/etc/resolv.conf"
cat /etc/resolv.conf >"$dir/etc/resolv.conf"
mount -t proc proc "$dir/proc"

say "${#packages[@]} packages and what they need"
in_base() { chroot "$dir" "$@" >>"$dir.log" 2>&1; }
apt=(apt-get -q -y -o Acquire::Check-Valid-Until=false -o APT::Install-Recommends=false)
in_base "${apt[@]}" update
in_base "${apt[@]}" install "${packages[@]}"
in_base "${apt[@]}" clean
# To be installed again by a test: a server of the lab has no way out.
in_base sh -c 'mkdir /opt/packages && cd /opt/packages && apt-get -q download nginx nginx-common'

say "all services off"
# Debian starts everything it installs; here a role turns on what it needs.
in_base systemctl disable nginx ssh postgresql haproxy kamailio nftables postfix
# Housekeeping that would wake up in the middle of a test.
in_base systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer
in_base useradd --create-home --shell /bin/bash --uid 1000 tester
mkdir -p "$dir/var/log/journal" # makes the journal outlive a reboot
rm -rf "$dir/usr/sbin/policy-rc.d" "$dir/etc/resolv.conf" "$dir/etc/machine-id" "$dir/etc/hostname" \
  "$dir"/var/lib/apt/lists/* "$dir"/var/cache/apt/*.bin "$dir/var/lib/dbus/machine-id"
umount "$dir/proc"
rm -f "$dir.log"
