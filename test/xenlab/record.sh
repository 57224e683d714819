# Recordings of what the real xl prints, which tests of package xen read; those
# of lvm2 are made by node/storage/testdata/lvm2/record.sh. Sourced by `lab`.

# recorded COMMAND prints the command, what it says on xen1, and its exit code.
recorded() {
	printf '$ %s\n' "$1"
	on xen1 "{ $1; } 2>&1; echo exit=\$?" </dev/null
}

# record needs the guests at home on xen1, and makes one of its own to save and
# restore.
record() {
	local xen=$here/../../xen/testdata/lab
	mkdir -p "$xen"
	guest_type[c1]=pvh
	build_guest_root
	push "$run/guest-root.img" xen1:/var/tmp/guest-root.img
	guest_volumes c1 | on xen1 sh -e
	guest_config c1 | on xen1 'cat >/root/c1.cfg'
	recorded 'xl create -p /root/c1.cfg' >"$xen/create-paused.txt"
	on xen1 'xl info' </dev/null >"$xen/xl-info.txt"
	on xen1 'xl list -v' </dev/null >"$xen/xl-list-v.txt"
	on xen1 'xl list -l' </dev/null >"$xen/xl-list-l.json"
	on xen1 'xenstore-ls -f /local/domain/0/backend/vbd' </dev/null >"$xen/xenstore-backend-vbd.txt"
	on xen1 'xl block-list d1' </dev/null >"$xen/xl-block-list-d1.txt"
	on xen1 'xl unpause c1' </dev/null
	within 120 "a heartbeat of c1" beats c1 "$(date -u +%FT%T.%NZ)"
	recorded 'xl save -p c1 /var/tmp/c1.image' >"$xen/save-ok.txt"
	on xen1 'xl list -v' </dev/null >"$xen/xl-list-v-saved.txt"
	on xen1 'xl destroy c1' </dev/null
	recorded 'xl restore -p /var/tmp/c1.image' >"$xen/restore-ok.txt"
	on xen1 'xl destroy c1; rm -f /var/tmp/c1.image; lvremove -q -y vg0/c1-root vg0/c1-swap vg0/c1-data' </dev/null
}
