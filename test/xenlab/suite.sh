# The suite: what runs on the hosts themselves, and the Go tests that drive the
# lab from its network. Sourced by `lab`.

bus_url=nats://$lab_address:$bus_port

# at_xmig runs xmig at the lab's bus.
at_xmig() { XMIG_NATS=$bus_url XMIG_TIMEOUT=${XMIG_TIMEOUT:-60s} in_lab "$run/xmig" "$@"; }

# build_test NAME PACKAGE builds a package's tests for the hosts.
build_test() {
	(cd "$here/../.." && CGO_ENABLED=0 GOAMD64=v1 go test -c -trimpath -ldflags '-s -w' -o "$run/$1" "$2")
}

# suite [FLAG...] runs the Go tests; flags are those of a test binary, without
# its prefix: -short, -run Preflight.
suite() {
	local flags=() flag
	for flag; do flags+=("${flag/#-/-test.}"); done
	build_test xenlab.test ./test/xenlab
	(cd "$here" && XMIG_LAB_BUS=$bus_url in_lab "$run/xenlab.test" -test.v -test.timeout 4h "${flags[@]}")
}

# all [FLAG...] is everything from nothing: up, guests, suite, down.
all() {
	local began=$SECONDS code=0
	"$0" up && "$0" guests && "$0" deploy && "$0" suite "$@" || code=$?
	[ $code = 0 ] || keep_evidence
	"$0" down
	say "all of it took $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s, exit code $code"
	return $code
}

# keep_evidence prints what helps to see why a suite failed.
keep_evidence() {
	local host
	for host in "${hosts[@]}"; do
		echo "=== $host"
		"$0" ssh "$host" 'xl list; lvs -o lv_name,lv_attr,lv_tags; journalctl -q --no-pager -n 120 -u xmig-node; tail -n 40 /var/log/xen/xl-*.log /var/log/xen/console/guest-*.log' </dev/null || true
	done
	echo "=== server"
	tail -n 60 "$run/xmig.log" || true
}

# spare KIND [BACKEND] makes the guest c1 of that type: disks on both hosts, the
# config on xen1. It does not start it.
spare() {
	guest_type[c1]=$1
	guest_backend[c1]=${2:-}
	# Another VM each time: xmig knows on which host the one before belongs.
	guest_uuid[c1]=$(</proc/sys/kernel/random/uuid)
	build_guest_root
	local host
	for host in "${hosts[@]}"; do
		push "$run/guest-root.img" "$host:/var/tmp/guest-root.img"
		guest_volumes c1 | on "$host" sh -e
	done
	guest_config c1 | on xen1 'cat >/root/c1.cfg'
}

# spare_gone takes all of it away.
spare_gone() {
	local host
	for host in "${hosts[@]}"; do
		on "$host" 'xl destroy c1 2>/dev/null; lvs --noheadings -o vg_name,lv_name vg0 | sed -n "s,^ *vg0 *\(c1-.*\),vg0/\1,p" | xargs -r lvremove -q -y
			rm -f /var/tmp/guest-root.img /root/c1.cfg /etc/xen/c1.cfg /etc/xen/auto/c1.cfg' </dev/null
	done
}

# others COMMAND pauses or unpauses the guests at work: a host has one emulated
# CPU, and a third guest does not boot in time beside two.
others() {
	local host
	for host in "${hosts[@]}"; do
		on "$host" "for guest in d1 h1; do ! xl domid \$guest >/dev/null 2>&1 || xl $1 \$guest; done" </dev/null
	done
}

# conform KIND holds the driver to what it promises on the real xl, with a guest
# of that type whose disks are there on both hosts. It runs on xen1 and reaches
# the xl of xen2 by ssh.
conform() {
	local code=0
	others pause
	spare "$1"
	build_test xen.test ./xen
	push "$run/xen.test" xen1:/var/tmp/xen.test
	on xen1 'cat >/root/toolstack.json' <<-'EOT'
		{"Source": {"Command": ["xl"]},
		 "Destination": {"Command": ["ssh", "xen2", "xl"], "Xenstore": ["ssh", "xen2"]},
		 "Config": "/root/c1.cfg",
		 "Ready": ["lab-guest", "ask", "10.99.0.13", "verify"]}
	EOT
	on xen1 'cd /var/tmp && XMIG_TOOLSTACK=/root/toolstack.json ./xen.test -test.v -test.run TestConformanceOfRealXL' </dev/null || code=$?
	spare_gone
	others unpause
	return $code
}

# volumes runs storage's tests of logical volumes on xen2's lvm2, but for those
# that kill it at every point: they take an hour under emulation.
volumes() {
	build_test storage.test ./node/storage
	push "$run/storage.test" xen2:/var/tmp/storage.test
	on xen2 'cd /var/tmp && XMIG_TEST_VG=vg0 ./storage.test -test.v -test.short -test.run "TestLVM(Create|Last|Shadow|Existing)"' </dev/null
}
