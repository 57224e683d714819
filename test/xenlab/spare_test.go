package xenlab

// spareGuest has no part in the other tests: it may be damaged.
const spareGuest = "c1"

// spare makes the third guest, PVH, and has it run on xen1 as a guest that xmig
// may move: its config in place, no volume of it on xen2. A program serves its
// data disk if backend says which, else the kernel does.
func (l *lab) spare(backend ...string) {
	l.t.Helper()
	l.lab(append([]string{"spare", "pvh"}, backend...)...)
	l.on("xen2", "lvremove -q -y vg0/c1-root vg0/c1-swap vg0/c1-data")
	l.on("xen1", "cp /root/c1.cfg /etc/xen/c1.cfg && ln -sf ../c1.cfg /etc/xen/auto/c1.cfg && xl create -q /etc/xen/c1.cfg")
	l.well(spareGuest)
	l.awaitSeen(spareGuest, "xen1")
}
