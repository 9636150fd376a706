#!/bin/bash
# Boots a real `systemd --user` for an unprivileged user, with a journal, in namespaces of its
# own; prints "ready" and stays until it is killed, which ends everything inside.
#
#   systemd.sh CGROUP USER_ID HOME RUNTIME_DIR     as root, CGROUP a new cgroup2 directory
set -eu

if [ "${1:-}" != inside ]; then
  # Before the new cgroup namespace: so this directory is the root of what systemd can see.
  echo $$ >"$1/cgroup.procs"
  shift
  exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child --mount-proc -- \
    "$0" inside "$@"
fi
shift
user=$1 home=$2 runtime=$3

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
# Without this directory systemd believes that another init has booted, and exits silently.
mkdir -p /run/systemd/system /run/systemd/journal /run/systemd/journald.conf.d
mkdir -p "/var/log/journal/$(cat /etc/machine-id)"
touch /run/systemd/journal/flushed
for name in passwd group; do cp "/etc/$name" "/run/$name"; done
echo "tester:x:$user:$user::$home:/bin/sh" >>/run/passwd
echo "tester:x:$user:" >>/run/group
for name in passwd group; do mount --bind "/run/$name" "/etc/$name"; done

# The user's part of the tree, named as a login would name it: the journal tells by the name
# whose unit a line came from.
if mountpoint -q /sys/fs/cgroup; then umount -R -l /sys/fs/cgroup; fi
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/user.slice/user-$user.slice/user@$user.service
mkdir -p /sys/fs/cgroup/init.scope "$group"
echo $$ >/sys/fs/cgroup/init.scope/cgroup.procs
chown "$user:$user" "$group" "$group"/cgroup.{procs,threads,subtree_control}

printf '[Journal]\nStorage=persistent\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\n' \
  >/run/systemd/journald.conf.d/test.conf
printf 'ForwardToWall=no\nRateLimitBurst=0\n' >>/run/systemd/journald.conf.d/test.conf
mount --bind /dev/null /dev/kmsg
/lib/systemd/systemd-journald >/dev/null 2>&1 &
while ! [ -S /run/systemd/journal/stdout ]; do sleep 0.01; done

(
  echo "$BASHPID" >"$group/cgroup.procs"
  cd "$home"
  exec setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --bounding-set=-all \
    env -i HOME="$home" USER=tester LOGNAME=tester SHELL=/bin/sh LANG=C.UTF-8 \
    PATH=/usr/bin:/bin XDG_RUNTIME_DIR="$runtime" SYSTEMD_LOG_TARGET=journal \
    /lib/systemd/systemd --user
) >/dev/null 2>&1 &
while ! [ -S "$runtime/systemd/private" ]; do kill -0 $! && sleep 0.01; done
echo ready
wait
