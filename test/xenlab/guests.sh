# The guests: what they are made of, and how they begin, all on xen1. Sourced
# by `lab`.

guest_names=(d1 h1)
declare -A guest_type=([d1]=pv [h1]=pvh)
declare -A guest_uuid=([d1]=5f0e7c1a-0000-4000-8000-0000000000d1 [h1]=5f0e7c1a-0000-4000-8000-0000000000a1)
guest_disks=(root:xvda:40 swap:xvdb:16 data:xvdc:32) # name:vdev:MiB
declare -A guest_backend=() # of the data disk; none: the kernel's
guest_memory=144 # MiB; the kernel and three block frontends take 90
guest_work=(lab.ram=16 lab.rate=65536 lab.dirty=131072) # MiB, bytes per second: an emulated CPU has much to do with that

# guests makes the guests anew and returns when all of them beat.
guests() {
	local name since
	build_program lab-guest ./test/xenlab/guest
	start_program lab-guest watch "$run/beats"
	build_guest_root
	push "$run/guest-root.img" xen1:/var/tmp/guest-root.img
	since=$(date -u +%FT%T.%NZ)
	for name in "${guest_names[@]}"; do
		guest_config "$name" | on xen1 "mkdir -p /etc/xen/auto; cat >/etc/xen/$name.cfg; ln -sf ../$name.cfg /etc/xen/auto/$name.cfg"
		guest_volumes "$name" | on xen1 sh -e
		say "$name (${guest_type[$name]}) has its disks and starts"
		start_guest "$name"
	done
	for name in "${guest_names[@]}"; do await_guest "$name" "$since"; done
	say "all guests beat"
}

# start_guest NAME: on a loaded machine the block scripts may run into libxl's
# time-out of 40 s; what xl made until then it has taken away again.
start_guest() {
	local try
	for try in 1 2 3; do
		on xen1 "xl create -q /etc/xen/$1.cfg" </dev/null && return
		say "$1 did not start (try $try of 3)"
	done
	fail "$1 does not start"
}

# await_guest NAME SINCE returns when the guest beats. One whose kernel dies while
# it boots, which happens under emulation and is nothing that xmig did, begins
# anew on new disks, and what it said last is shown.
await_guest() {
	local try
	for try in 1 2 3; do
		within 900 "the first heartbeat of $1 ($here/lab ssh xen1 cat /var/log/xen/console/guest-$1.log)" beats_or_crashed "$1" "$2"
		beats "$1" "$2" && return
		say "$1 crashed while it booted (try $try of 3); its console ends with:"
		on xen1 "tail -n 40 /var/log/xen/console/guest-$1.log" </dev/null >&2 || true
		guest_volumes "$1" | on xen1 sh -e
		start_guest "$1"
	done
	fail "$1 crashes whenever it boots"
}

beats_or_crashed() { beats "$1" "$2" || crashed "$1"; }

# crashed NAME: asked seldom, for each question costs the one emulated CPU.
crashed() {
	sleep 5
	on xen1 "xl list $1" </dev/null 2>/dev/null | awk 'NR == 2 { state = $5 } END { exit state !~ /c/ }'
}

# beats NAME SINCE: a heartbeat of the guest was heard since then.
beats() { "$run/lab-guest" gaps -since "$2" "$run/beats" 2>/dev/null | grep -q "^$1 .*beat  *[1-9]"; }

# build_guest_root makes the root file system that both guests begin with:
# busybox, and the program that does the work.
build_guest_root() {
	local tree=$run/guest-root
	rm -rf "$tree"
	mkdir -p "$tree"/{bin,sbin,dev,proc,sys,run,tmp,var/lib/work}
	cp -r "$here/guest/root/." "$tree/"
	cp "$cache/busybox" "$run/lab-guest" "$tree/bin/"
	local applet
	for applet in $("$cache/busybox" --list-full); do
		case $applet in
		bin/busybox) ;;
		bin/*) ln -sf busybox "$tree/$applet" ;;
		sbin/*) ln -sf ../bin/busybox "$tree/$applet" ;;
		usr/*) ln -sf busybox "$tree/bin/${applet##*/}" ;;
		esac
	done
	rm -f "$run/guest-root.img"
	truncate -s "${guest_disks[0]##*:}M" "$run/guest-root.img"
	mke2fs -q -t ext4 -L guest -d "$tree" "$run/guest-root.img"
	rm -rf "$tree"
}

# guest_config NAME prints the guest's xl.cfg. Its weight: where dom0 has as much
# of the one emulated CPU as a guest, guests cannot stop their devices within the
# minute that libxl gives them to suspend.
guest_config() {
	local name=$1 disk part vdev
	cat <<-EOF
		# a guest of the lab
		name      = "$name"
		uuid      = "${guest_uuid[$name]}"
		type      = "${guest_type[$name]}"
		kernel    = "/boot/guest/vmlinuz"
		ramdisk   = "/boot/guest/initrd"
		extra     = "console=hvc0 quiet mitigations=off panic=5 lab.name=$name lab.address=${address[$name]} lab.watch=$lab_address:7600 ${guest_work[*]}"
		memory    = $guest_memory
		vcpus     = 1
		cpu_weight = 2048
		on_crash  = "preserve"
		vif       = [ 'bridge=xenbr0,mac=00:16:3e:99:00:${address[$name]##*.}' ]
		disk      = [
	EOF
	for disk in "${guest_disks[@]}"; do
		IFS=: read -r part vdev _ <<<"$disk"
		if [ "$part" = data ] && [ -n "${guest_backend[$name]:-}" ]; then
			echo "  'format=raw,vdev=$vdev,access=w,backendtype=${guest_backend[$name]},target=/dev/vg0/$name-$part',"
		else
			echo "  'phy:/dev/vg0/$name-$part,$vdev,w',"
		fi
	done
	echo "]"
}

# guest_volumes NAME prints the commands that make its disks on a host: new
# volumes hold what was there before them, so all but the root is zeroed.
guest_volumes() {
	local name=$1 disk part size
	echo "xl destroy $name 2>/dev/null || true"
	for disk in "${guest_disks[@]}"; do
		IFS=: read -r part _ size <<<"$disk"
		echo "[ -e /dev/vg0/$name-$part ] || lvcreate -q -y -L ${size}M -n $name-$part vg0"
		if [ "$part" = root ]; then
			echo "dd if=/var/tmp/guest-root.img of=/dev/vg0/$name-$part bs=1M oflag=direct status=none"
		else
			echo "blkdiscard -f -z /dev/vg0/$name-$part"
		fi
	done
}
