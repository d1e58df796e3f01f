#!/bin/bash
# Boots systemd as process 1 of namespaces of its own, on a copy of this machine's
# files that goes away with it ($1 is an empty folder for that). The network is this
# machine's, so clients reach what runs there; nothing that would change it is started.
# With "probe" as $2, it only finds out whether this machine allows all that.
set -e
work=$1

# A control group of its own: all that systemd makes is below it.
hierarchy=/sys/fs/cgroup/systemd
[ -d $hierarchy ] || hierarchy=/sys/fs/cgroup
group=$hierarchy/kafka-sni-proxy-test-$$
mkdir "$group"
echo $$ >"$group/cgroup.procs"

cat >"$work.boot" <<'BOOT'
set -e
work=$1
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
if [ -d /sys/fs/cgroup/systemd ]; then
	mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
	mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
else
	mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
rm -rf lib/systemd/system/*.wants/* etc/systemd/system/*.wants/*
ln -sf /dev/null etc/systemd/system/network-online.target
# The sandbox of a unit needs a root that is a mount, which chroot's is not.
mkdir old
pivot_root . old
cd /
umount --lazy /old
if [ "$2" = probe ]; then exit 0; fi
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target
BOOT
if [ "$2" = probe ]; then # its group goes, too
	status=0
	unshare --mount --pid --fork --uts --ipc --cgroup bash "$work.boot" "$work" probe || status=$?
	echo $$ >"$hierarchy/cgroup.procs"
	rmdir "$group"
	exit $status
fi
exec unshare --kill-child=KILL --mount --pid --fork --uts --ipc --cgroup bash "$work.boot" "$work"
