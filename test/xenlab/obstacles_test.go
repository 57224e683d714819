package xenlab

import (
	"fmt"

	"xmig/test/moves"
)

// Obstacles are put in a guest's way on the host where it is to go. Shadows of
// an earlier move there would need no space, so they go first.
func (l *lab) Obstacles(guest, there string) []moves.Obstacle {
	l.t.Helper()
	if said := l.Xmig("shadow", "prune", guest, "--host", there, "--force"); said.Code != 0 {
		l.t.Fatalf("prune the shadows of %s on %s: %+v", guest, there, said)
	}
	do := func(line string) func() { return func() { l.t.Helper(); l.on(there, line) } }
	root := "/dev/vg0/" + guest + "-root"
	return []moves.Obstacle{
		{
			Name:  "no space in the volume group",
			Place: do("lvcreate -q -y -Wn -Zn -n fill -l 100%FREE vg0 && lvreduce -q -y -f -L -16M vg0/fill"),
			Clear: do("lvremove -q -y vg0/fill"),
			Named: []string{there, "volume group vg0", "16 MiB free"},
		},
		{
			Name:  "volume mounted in dom0",
			Place: do(fmt.Sprintf("lvcreate -q -y -L 40M -n %s-root vg0 && mke2fs -q -t ext4 %s && mount %s /mnt", guest, root, root)),
			Clear: do(fmt.Sprintf("umount /mnt && lvremove -q -y vg0/%s-root", guest)),
			Named: []string{there, root, "mounted"},
		},
		{
			Name:  "disk used by another guest",
			Place: do(fmt.Sprintf("lvcreate -q -y -Wn -Zn -L 40M -n %s-root vg0 && %s", guest, intruder("db01", "96", root))),
			Clear: do(fmt.Sprintf("xl destroy db01 && lvremove -q -y vg0/%s-root", guest)),
			Named: []string{there, root, "attached to domain"},
		},
		{
			Name: "name taken", Move: []string{"--from", l.other(there)},
			Place: do(intruder(guest, "96", "")),
			Clear: func() { l.t.Helper(); l.on(there, "xl destroy "+guest); l.awaitSeen(guest, l.other(there)) },
			Named: []string{there, "is called " + guest},
		},
		{
			Name: "bridge missing", Move: []string{"--map", "bridge=xenbr0:xenbr7"},
			Place: func() {}, // neither host has it
			Clear: func() {},
			Named: []string{there, "no bridge xenbr7"},
		},
		{
			Name:  "not enough memory",
			Place: do(intruder("big", "$(($(xl info free_memory) - 80))", "")), // less than the guest has stays free
			Clear: do("xl destroy big"),
			Named: []string{there, "MiB are free", "needs"},
		},
	}
}

// other is the other host.
func (l *lab) other(host string) string {
	if hosts := l.Hosts(); hosts[0] != host {
		return hosts[0]
	}
	return l.Hosts()[1]
}

// intruder is the line that builds a paused guest which is in the way. The
// shell works out how many MiB of memory it has.
func intruder(name, mib, disk string) string {
	if disk != "" {
		disk = fmt.Sprintf("'phy:%s,xvda,w'", disk)
	}
	return fmt.Sprintf(`printf '%%s\n' 'name="%[1]s"' 'type="pv"' 'kernel="/boot/guest/vmlinuz"' "memory=%[2]s" "disk=[%[3]s]" >/tmp/%[1]s.cfg && xl create -q -p /tmp/%[1]s.cfg`,
		name, mib, disk)
}
