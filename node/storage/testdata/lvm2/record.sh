#!/bin/bash
# Records what lvm2 reports, as node/storage asks for it, in this directory.
# Needs root, lvm2, device-mapper and loop devices; makes volume groups of its
# own on files and removes them. Recorded files are tests' input: look at the diff.
set -euo pipefail
cd "$(dirname "$0")"
export LC_ALL=C LVM_SUPPRESS_FD_WARNINGS=1
work=$(mktemp -d)
devices=()

device() { # NAME MIB: sets the variable to a loop device of that size
	truncate -s "$2M" "$work/$1"
	local dev
	dev=$(losetup --find --show "$work/$1")
	devices+=("$dev")
	printf -v "$1" %s "$dev"
}

clean() {
	set +e
	vgchange -qq --yes -an xr-plain xr-mixed xr-odd xr-partial
	vgremove -qq --yes --force xr-plain xr-mixed xr-odd
	losetup --detach "${devices[@]}"
	rm -rf "$work"
} 2>/dev/null
trap clean EXIT

# Other groups of this machine stay out of the reports.
only() { printf 'devices { filter = [ "r|.*/%s$|", "a|%s|", "r|.*|" ] }' "${1:-none}" '/dev/loop.*'; }

pvs_report() { # FILE [DEVICE that is not to be seen]
	lvm pvs --config "$(only "${2:-}")" --reportformat json --units b --nosuffix \
		--options vg_name,vg_uuid,vg_attr,vg_extent_size,pv_name,pv_attr,pv_pe_count,pv_pe_alloc_count >"$1" 2>/dev/null
}

lvs_report() { # FILE GROUP
	lvm lvs --reportformat json --units b --nosuffix \
		--options vg_name,vg_uuid,lv_name,lv_uuid,lv_size,lv_attr,lv_tags --select "vg_name=\"$2\"" >"$1" 2>/dev/null
}

device a 64
device b 64
device c 64
device d 256
vgcreate -qq --yes xr-plain "$a" "$b"
udevadm settle # or it activates what is made next
lvcreate -qq --yes -an -Wn -Zn -l 3 -n idle xr-plain
lvcreate -qq --yes -Wn -Zn -l 1 -n 'active-one' --addtag xmig.id=ABC --addtag 'xmig.job=a#2Fb' --addtag backup xr-plain
lvcreate -qq --yes -Wn -Zn -l 1 -n held xr-plain
pvchange -qq -xn "$b"
pvcreate -qq --yes "$c"
exec 7</dev/xr-plain/held
lvs_report lvs-plain.json xr-plain
exec 7<&-
lvs_report lvs-none.json no-such-group
pvs_report pvs-plain.json

vgcreate -qq --yes --physicalextentsize 1m xr-mixed "$d"
lvcreate -qq --yes -Wn -Zn -l 8 -n origin xr-mixed
lvcreate -qq --yes -s -l 4 -n snap xr-mixed/origin
lvcreate -qq --yes -L 32M -T xr-mixed/pool
lvcreate -qq --yes -V 64M -T xr-mixed/pool -n thin
lvcreate -qq --yes -s -n thinsnap xr-mixed/thin
lvcreate -qq --yes -Wn -an -Zn -l 1 -n shadow.xmig-shadow xr-mixed
lvchange -qq -ky xr-mixed/shadow.xmig-shadow
lvs_report lvs-mixed.json xr-mixed
vgchange -qq -an xr-mixed

vgcreate -qq --yes xr-odd "$c"
vgexport -qq xr-odd
pvs_report pvs-exported.json
pvs_report pvs-partial.json "$(basename "$b")"
vgimport -qq xr-odd
vgchange -qq -an xr-plain
# Two groups of one name, as after copying a disk.
device e 64
losetup --detach "$a" "$b"
vgcreate -qq --yes xr-plain "$e"
losetup "$a" "$work/a"
losetup "$b" "$work/b"
pvs_report pvs-twice.json
vgremove -qq --yes --force --select "vg_uuid=\"$(vgs --noheadings -o vg_uuid -S "pv_name=\"$e\"" | tr -d ' ')\"" 2>/dev/null || pvremove -qq --yes -ff "$e"
lvm version | sed -n 's/ *LVM version: *//p' >version
