package node

import (
	"os"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// TestManifest: a device that was synced once and that nobody wrote to at
// either end is synced again without being read or sent; a write at either end, or a
// manifest that is lost, broken or another's, brings the whole comparison back.
func TestManifest(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	must(t, xlsim.MakeDisk(a.disks("from"), 8*mib, xlsim.DefaultMix(1)))
	must(t, xlsim.MakeDisk(b.disks("to"), 8*mib, xlsim.DefaultMix(2)))
	a.run()
	b.run()
	next := 0
	sync := func() (read, wire int64) {
		t.Helper()
		id := job1[:25] + "ABCDEFGHJKMNPQ"[next:next+1]
		next++
		w.submit(jobs.Job{ID: id, Kind: jobs.KindSync, Source: "a", Destination: "b",
			VM:   jobs.VMRef{UUID: "5eed0000-0000-4000-8000-00000000d15c", Name: "b:" + b.disks("to")},
			Spec: jobs.Spec{Kind: jobs.KindSync, From: "a", To: "b", SyncFrom: a.disks("from"), SyncTo: b.disks("to")}.WithDefaults()})
		rec := w.final(id)
		if rec.State != jobs.Succeeded {
			t.Fatalf("%s: %+v", rec.State, rec.Failure)
		}
		for _, p := range rec.Report.Passes {
			for _, d := range p.Disks {
				read, wire = read+d.Read, wire+d.Wire
			}
		}
		same(t, a.disks("from"), b.disks("to"))
		return read, wire
	}
	expect := func(what string, quick bool) {
		t.Helper()
		if read, wire := sync(); quick && (read != 0 || wire > 100<<10) || !quick && read < 8*mib {
			t.Errorf("%s: %d bytes read at the source, %d on the wire", what, read, wire)
		}
	}
	expect("at first", false)
	expect("nothing changed", true)
	expect("still nothing changed", true)
	flip(t, a.disks("from"), 5*mib)
	expect("source changed", false)
	expect("nothing changed since", true)
	flip(t, b.disks("to"), 3*mib)
	expect("destination changed", false)
	expect("and was made equal", true)
	broken := a.manifest(a.disks("from"))
	write(t, broken, "{")
	expect("manifest broken", false)
	must(t, os.Remove(b.manifest(b.disks("to"))))
	expect("manifest lost", false)
	expect("both are there again", true)
	// A root of another copy vouches for nothing.
	data := read(t, a.manifest(a.disks("from")))
	flip(t, a.disks("from"), 1*mib)
	expect("source changed", false)
	write(t, a.manifest(a.disks("from")), data)
	expect("manifest of an older copy", false)
}

func (h *host) manifest(path string) string {
	return manifests{dir: h.cfg.StateDir + "/manifests"}.file(path)
}

// flip changes one byte.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	must(t, err)
}

func same(t *testing.T, one, other string) {
	t.Helper()
	if read(t, one) != read(t, other) {
		t.Errorf("%s and %s differ", one, other)
	}
}
