#!/bin/sh
# Debian asks this program before a package's script starts a service: invoke-rc.d and deb-systemd-invoke
# (/usr/share/doc/init-system-helpers/README.policy-rc.d.gz). Without it an upgrade of a held nginx fails, for
# its script takes a refused start as an error. Only a server without a policy of its own should get it:
#   update-alternatives --install /usr/sbin/policy-rc.d policy-rc.d /usr/lib/ebb/policy-rc.d 10
# 101: forbidden, and no error; 104: allowed.
marks=/var/lib/ebb/held
while :; do
  case $1 in
  --quiet) shift ;;
  --list) exit 0 ;;
  *) break ;;
  esac
done
unit=$1 actions=$2
case $unit in *.*) ;; *) unit=$unit.service ;; esac
case $actions in *start*) ;; *) exit 104 ;; esac
[ -e "$marks/$unit" ] || exit 104
sed -n "s/^text=/$unit: /p" "$marks/$unit" >&2
exit 101
