package xlsim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestVdevNumbers(t *testing.T) {
	for vdev, want := range map[string]int{
		"xvda": 51712, "xvdb": 51728, "xvda1": 51713, "xvdp": 51952, "xvdq": 1<<28 | 16<<8, "xvdaa": 1<<28 | 26<<8,
		"hda": 768, "hdb": 832, "hdc": 5632, "hdc1": 5633, "sda": 2048, "sdb1": 2065, "d2p3": 202<<8 | 2<<4 | 3, "d0": 51712,
	} {
		if got, err := vdevNumber(vdev); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", vdev, got, err, want)
		}
	}
	for _, vdev := range []string{"", "xvd", "xvd1", "vda", "hde", "xvdA", "sdq", "d-1"} {
		if got, err := vdevNumber(vdev); err == nil {
			t.Errorf("%q: %d, must be refused", vdev, got)
		}
	}
}

// TestSlotsDoNotMeet: for every size, slots lie apart from each other, from
// the label and within the disk, at multiples of 4 KiB.
func TestSlotsDoNotMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, 64<<30).Draw(t, "size") &^ 511
		if rapid.Bool().Draw(t, "small") {
			size %= 4 << 20
		}
		g := geometryOf(size)
		end := int64(labelSize)
		for i := range g.slots {
			at := g.offset(i)
			if at < end || at%4096 != 0 || at+slotSize > size {
				t.Fatalf("slot %d of %d on %d bytes at %d, the one before ends at %d", i, g.slots, size, at, end)
			}
			end = at + slotSize
		}
	})
}

// TestJudge: each way a slot can be wrong has its own word.
func TestJudge(t *testing.T) {
	owner := slotOwner{uuid: [16]byte{1}, devID: 51712, writer: 1, slot: 5}
	make := func(change func(*record)) ([]byte, uint64) {
		r := record{UUID: owner.uuid, DevID: owner.devID, Writer: owner.writer, Slot: owner.slot, Length: 8192, Seq: 7, Prev: 6, Seed: 99}
		change(&r)
		buf := bytes.Repeat([]byte{0xee}, slotSize)
		return buf, r.encode(buf)
	}
	good, sum := make(func(*record) {})
	with := func(change func(*record)) []byte { buf, _ := make(change); return buf }
	torn := bytes.Clone(good)
	torn[5000] ^= 1
	known := SlotState{Ack: 7, AckSum: sum}
	for _, x := range []struct {
		name string
		buf  []byte
		want SlotState
		how  bound
		word string
	}{
		{"as acknowledged", good, known, exactly, ""},
		{"in flight, not arrived", good, SlotState{Ack: 7, AckSum: sum, Fly: 8, FlySum: 1}, exactly, ""},
		{"in flight, arrived", good, SlotState{Ack: 6, AckSum: 1, Fly: 7, FlySum: sum}, exactly, ""},
		{"empty, and nothing known", bytes.Repeat([]byte{0}, slotSize), SlotState{}, exactly, ""},
		{"empty", bytes.Repeat([]byte{0}, slotSize), known, exactly, "lost"},
		{"checksum", torn, known, exactly, "torn"},
		{"checksum of a write that failed", torn, SlotState{Ack: 6, Fly: 7}, exactly, ""},
		{"another guest", with(func(r *record) { r.UUID[3] = 9 }), known, exactly, "foreign"},
		{"another disk", with(func(r *record) { r.DevID++ }), known, exactly, "foreign"},
		{"another slot", with(func(r *record) { r.Slot = 9 }), known, exactly, "repeated"},
		{"same sequence, other content", with(func(r *record) { r.Seed++ }), known, exactly, "repeated"},
		{"older", with(func(r *record) { r.Seq = 6 }), known, exactly, "older"},
		{"older than a lower bound", with(func(r *record) { r.Seq = 6 }), known, atLeast, "older"},
		{"newer", with(func(r *record) { r.Seq = 8 }), known, exactly, "newer"},
		{"newer than a lower bound", with(func(r *record) { r.Seq = 8 }), known, atLeast, ""},
		{"a record nobody knows of", good, SlotState{}, exactly, "newer"},
	} {
		got := owner.judge(x.buf, x.want, x.how)
		if (got == "") != (x.word == "") || !strings.HasPrefix(got, x.word) {
			t.Errorf("%s: %q, want %q", x.name, got, x.word)
		}
	}
}

// TestEveryPageCounts: an older version of any page that changed is found.
func TestEveryPageCounts(t *testing.T) {
	mem := make([]byte, minRAM)
	head := ramHead{Seed: 1, Writers: 2, NDisks: 1}
	head.Disks[0] = ramDisk{DevID: 51712, Slots: 300, Size: 300 * slotEvery}
	r, err := bootRAM(mem, head)
	if err != nil {
		t.Fatal(err)
	}
	work := func() {
		r.beat()
		for range 4 * r.workPages() {
			r.dirty()
		}
		for s := range 300 {
			state := r.slot(r.disks()[0], s)
			r.setSlot(r.disks()[0], s, SlotState{Ack: state.Ack + 1, AckSum: 5})
			r.writerLine(0, s%2).add(lineDone, 1)
		}
	}
	work()
	before := bytes.Clone(mem)
	work()
	if _, bad := r.check(); len(bad) != 0 {
		t.Fatalf("good memory is called bad: %v", bad)
	}
	changed := 0
	for p := range r.head.Pages {
		old := before[p*pageSize : (p+1)*pageSize]
		if bytes.Equal(old, r.page(p)) {
			continue
		}
		changed++
		if changed%40 != 0 && p >= r.head.WorkAt {
			continue // of the many work pages a part will do
		}
		now := bytes.Clone(r.page(p))
		copy(r.page(p), old)
		if _, bad := r.check(); len(bad) == 0 {
			t.Errorf("page %d of an older time is not found", p)
		}
		copy(r.page(p), now)
	}
	if changed < int(r.workPages())/2 {
		t.Errorf("only %d pages changed", changed)
	}
}

// TestMakeDisk: the same for the same seed, another for another; sparse; empty slots.
func TestMakeDisk(t *testing.T) {
	dir := t.TempDir()
	sum := func(name string, m Mix) [32]byte {
		path := filepath.Join(dir, name)
		if err := MakeDisk(path, 32*mib, m); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g := geometryOf(32 * mib)
		for i := range g.slots {
			slot := data[g.offset(i) : g.offset(i)+slotSize]
			if len(bytes.Trim(slot, "\x00")) != 0 {
				t.Fatalf("slot %d is not empty", i)
			}
		}
		return sha256.Sum256(data)
	}
	if sum("a", DefaultMix(1)) != sum("b", DefaultMix(1)) {
		t.Error("the same seed made two disks")
	}
	if sum("a", DefaultMix(1)) == sum("b", DefaultMix(2)) {
		t.Error("two seeds made the same disk")
	}
	if sum("a", Mix{}) != sha256.Sum256(make([]byte, 32*mib)) {
		t.Error("the zero mix is not an empty disk")
	}
}

func BenchmarkMakeDisk(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk")
	b.SetBytes(256 * mib)
	for b.Loop() {
		if err := MakeDisk(path, 256*mib, DefaultMix(1)); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzSaved: no stream, however damaged, does more than fail.
func FuzzSaved(f *testing.F) {
	config := `{"c_info":{"type":"pv","name":"d1","uuid":"7ab295fe-717a-4a3b-9229-930d105db818"},"b_info":{"max_memkb":8192}}`
	whole := append(savedHeader(config), imageStart("pv", 4, 17)...)
	whole = append(whole, pageRecord(numbers(3, 1))...)
	whole = append(whole, bytes.Repeat([]byte{7}, pageSize)...)
	f.Add(append(whole, imageEnd("pvh")...))
	f.Add(whole)
	f.Add([]byte(savedMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		saved, _, err := readSaved(bytes.NewReader(data))
		if err != nil {
			return
		}
		if _, err := saved.start(); err != nil {
			return
		}
		ram, err := os.Create(filepath.Join(t.TempDir(), "ram"))
		if err != nil {
			t.Fatal(err)
		}
		defer ram.Close()
		if err := saved.load(ram, 2048); err != nil {
			return
		}
		if size, err := ram.Seek(0, io.SeekEnd); err != nil || size > 8*mib {
			t.Errorf("%d bytes of RAM, %v", size, err)
		}
	})
}

func TestConfigsThatAreRefused(t *testing.T) {
	s := newSimulation(t)
	dir := s.host("a")
	for text, want := range map[string]string{
		"memory = 8\n":                                 "Domain name must be specified.\n",
		"name = 'x'\ntype = 'hvm'\n":                   "this simulation knows pv and pvh only",
		"name = 'x'\nmemory = 8\ndisk = [ 'a,,zz' ]\n": "Failed to parse config: Invalid argument\n",
		"name = \n":                                    "Failed to parse config: Invalid argument\n",
	} {
		path := filepath.Join(dir, "bad.cfg")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := run(t, dir, "xl", "create", path); r.exit != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: exit %d, %q; want %q", text, r.exit, r.stderr, want)
		}
	}
	if _, err := WriteGuestConfig(dir, GuestSpec{Name: "a/b", MemoryMiB: 4, Disks: []GuestDisk{{Path: "rel", Vdev: "q"}}}); err == nil {
		t.Error("a spec full of faults was taken")
	}
	if err := CreateHost(filepath.Join(s.dir, "x"), HostSpec{}); err == nil {
		t.Error("a host without a name was made")
	}
	if _, err := LoadHost(filepath.Join(s.dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no host: %v", err)
	}
}

func TestDiskSpecs(t *testing.T) {
	lv := diskConfig{Path: "/dev/vg/lv", Vdev: "xvda", Format: "raw", ReadWrite: 1}
	iso := diskConfig{Path: "/a.iso", Vdev: "hdc", Format: "raw", Removable: 1, CDROM: 1}
	empty := diskConfig{Vdev: "hdc", Format: "empty", Removable: 1, CDROM: 1}
	readOnly, script := lv, lv
	readOnly.ReadWrite = 0
	script.Script = "block-x"
	for spec, want := range map[string]diskConfig{
		"/dev/vg/lv,,xvda":                                    lv,
		"/dev/vg/lv,raw,xvda,rw":                              lv,
		"phy:/dev/vg/lv,xvda,w":                               lv,
		"  phy:/dev/vg/lv, xvda,\tw":                          lv,
		"raw:/dev/vg/lv,xvda,w":                               lv,
		"format=raw, vdev=xvda, access=rw, target=/dev/vg/lv": lv,
		"vdev=xvda,no-discard,target=/dev/vg/lv":              lv,
		"/dev/vg/lv,raw,xvda,ro":                              readOnly,
		"script=block-x,vdev=xvda,target=/dev/vg/lv":          script,
		"/a.iso,,hdc,cdrom":                                   iso,
		"/a.iso,,hdc:cdrom,r":                                 iso,
		"/a.iso,raw,hdc,devtype=cdrom":                        iso,
		",empty,hdc:cdrom,r":                                  empty,
		"vdev=hdc,access=r,devtype=cdrom,target=":             empty,
		"vdev=xvda,target=/path/with,comma and space":         {Path: "/path/with,comma and space", Vdev: "xvda", Format: "raw", ReadWrite: 1},
	} {
		if got, err := parseDisk(spec); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", spec, got, err, want)
		}
	}
	for _, spec := range []string{"", "/dev/vg/lv", "/dev/vg/lv,,nodisk", "a,raw,xvda,w,more", "phy:/dev/vg/lv , xvda , w "} {
		if got, err := parseDisk(spec); err == nil {
			t.Errorf("%q: %+v, must be refused", spec, got)
		}
	}
}
