package xen_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"xmig/xen"
)

// find looks for the guest on a host.
func (s *suite) find(t *testing.T, x xen.XL) (xen.Domain, bool) {
	t.Helper()
	all, err := x.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d xen.Domain) bool { return d.UUID == s.uuid })
	if i < 0 {
		return xen.Domain{}, false
	}
	return all[i], true
}

// guest is the guest at the source, which must be there.
func (s *suite) guest(t *testing.T) xen.Domain {
	t.Helper()
	d, ok := s.find(t, s.src)
	if !ok {
		t.Fatal("the guest is gone from the source")
	}
	return d
}

// runs proves that the guest runs at the source: it spends CPU time.
func (s *suite) runs(t *testing.T) {
	t.Helper()
	first := s.guest(t)
	until(t, "the guest runs", func() bool {
		d := s.guest(t)
		return d.State.Alive() && !d.State.Paused() && d.CPUTime > first.CPUTime
	})
}

func (s *suite) hosts(t *testing.T) {
	for i, x := range []xen.XL{s.src, s.dst} {
		info, err := x.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !info.Version.AtLeast(xen.Version{Major: 4, Minor: 4}) || info.FreeMemory <= 0 || info.FreeMemory > info.TotalMemory || info.CPUs < 1 || !slices.Contains(info.VirtCaps, "pv") {
			t.Errorf("%+v", info)
		}
		all, err := x.List(t.Context())
		if err != nil || len(all) == 0 || all[0].ID != 0 || all[0].Name != "Domain-0" || !all[0].State.Alive() || all[0].CPUTime <= 0 {
			t.Errorf("dom0: %+v, %v", all, err)
		}
		users, err := x.DisksInUse(t.Context())
		if i == 1 { // a path leads to another device there, whose number says nothing here
			users = xen.DiskUsers{}
		}
		if err != nil || users.Of(s.disk) != nil {
			t.Errorf("the disk is in use: %v, %v", users, err)
		}
	}
}

// refused: what cannot be made leaves nothing.
func (s *suite) refused(t *testing.T) {
	if _, err := s.src.Create(t.Context(), "/nowhere/guest.cfg", xen.Paused); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no config: %v", err)
	}
	path := s.variant(t, func(cfg *xen.Config) error {
		disks, _ := cfg.List("disk")
		d, err := xen.ParseDisk(disks[0])
		if err != nil {
			return err
		}
		return cfg.SetListItem("disk", 0, d.WithTarget("/nowhere/disk"))
	})
	_, err := s.src.Create(t.Context(), path, xen.Running)
	var failed *xen.CommandError
	if !errors.As(err, &failed) || !strings.Contains(failed.Stderr, "failed to stat") {
		t.Errorf("no disk: %v", err)
	}
	if d, ok := s.find(t, s.src); ok {
		t.Errorf("a failed create left %+v", d)
	}
}

func (s *suite) created(t *testing.T) {
	d, err := s.src.Create(t.Context(), s.cfg, xen.Paused)
	if err != nil {
		t.Fatal(err)
	}
	if s.id = d.ID; d != s.guest(t) || d.Name != s.name || !d.State.Paused() || d.State.Suspended() || d.Memory <= 0 || d.VCPUs < 1 {
		t.Errorf("%+v", d)
	}
}

func (s *suite) consists(t *testing.T) {
	ctx := t.Context()
	cfg, err := s.src.Config(ctx, s.id)
	if err != nil || len(cfg.Disks) == 0 || cfg.Disks[0].Path != s.disk || cfg.Disks[0].ReadOnly || cfg.PCI != 0 || !slices.Contains([]string{"pv", "pvh", "hvm"}, cfg.Type) {
		t.Errorf("config %+v, %v", cfg, err)
	}
	users, err := s.src.DisksInUse(ctx)
	if err != nil || !slices.Equal(users.Of(s.disk), []int{s.id}) || len(users.Without(s.id).Of(s.disk)) != 0 {
		t.Errorf("users %+v, %v", users, err)
	}
	backings, err := s.src.Backings(ctx, s.id)
	if err != nil || len(backings) != len(cfg.Disks) {
		t.Errorf("backings %+v, %v", backings, err)
	}
	disks, err := s.src.BlockList(ctx, s.id)
	if err != nil || len(disks) != len(cfg.Disks) || disks[0].Backend == "" {
		t.Errorf("block list %+v, %v", disks, err)
	}
	if state, err := s.src.Guest(ctx, s.id); err != nil || state.NoSuspend {
		t.Errorf("guest %+v, %v", state, err)
	}
}

func (s *suite) taken(t *testing.T) {
	if _, err := s.src.Create(t.Context(), s.cfg, xen.Paused); !errors.Is(err, xen.ErrNameTaken) {
		t.Errorf("the same guest again: %v", err)
	}
	path := s.variant(t, func(cfg *xen.Config) error {
		return errors.Join(cfg.SetString("name", "another"), cfg.SetString("uuid", "6ea6bdb8-45b7-44a7-b128-d8e6a79c9793"))
	})
	_, err := s.src.Create(t.Context(), path, xen.Paused)
	if err == nil || !strings.Contains(err.Error(), "is mounted in a guest domain") {
		t.Errorf("its disk for another guest: %v", err)
	}
	if all, err := s.src.List(t.Context()); err != nil || slices.ContainsFunc(all, func(d xen.Domain) bool { return d.ID > s.id }) {
		t.Errorf("failures left something: %+v, %v", all, err)
	}
}

func (s *suite) unpaused(t *testing.T) {
	ctx := t.Context()
	if err := s.src.Unpause(ctx, s.id); err != nil {
		t.Fatal(err)
	}
	s.runs(t)
	if err := s.src.Unpause(ctx, s.id); !errors.Is(err, xen.ErrNotPaused) {
		t.Errorf("unpause of one that runs: %v", err)
	}
	if err := s.src.Pause(ctx, s.id); err != nil || !s.guest(t).State.Paused() {
		t.Errorf("paused: %+v, %v", s.guest(t), err)
	}
	if err := s.src.Unpause(ctx, s.id); err != nil {
		t.Fatal(err)
	}
	s.runs(t)
}

func (s *suite) renamed(t *testing.T) {
	for _, name := range []string{"-p", "web one", "--incoming", "x 1 2 3", s.name} {
		if err := s.src.Rename(t.Context(), s.id, name); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if d := s.guest(t); d.Name != name || d.ID != s.id {
			t.Fatalf("renamed to %q: %+v", name, d)
		}
	}
}

// stream saves at the source and restores at the destination, through a pipe
// that passes so many bytes on and then breaks on both sides.
func (s *suite) stream(t *testing.T, limit int64) (d xen.Domain, saved, restored error) {
	t.Helper()
	fromSave, toHere, err := os.Pipe()
	fromHere, toRestore, err2 := os.Pipe()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	var received, sent = make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(received)
		d, restored = s.dst.Restore(t.Context(), fromHere)
		fromHere.Close()
	}()
	go func() {
		err := s.src.Save(t.Context(), s.id, toHere)
		toHere.Close()
		sent <- err
	}()
	_, _ = io.CopyN(toRestore, fromSave, limit) // how far it got, both ends tell
	fromSave.Close()
	toRestore.Close()
	saved = <-sent
	<-received
	return d, saved, restored
}

func (s *suite) moved(t *testing.T) {
	d, saved, restored := s.stream(t, 1<<40)
	if saved != nil || restored != nil {
		t.Fatalf("save: %v; restore: %v", saved, restored)
	}
	there, ok := s.find(t, s.dst)
	if !ok || d != there || d.Name != s.name || !d.State.Paused() {
		t.Errorf("at the destination: %+v, there is %+v", d, there)
	}
	if here := s.guest(t); here.ID != s.id || !here.State.Paused() {
		t.Errorf("at the source: %+v, it must stay paused", here)
	}
	if err := s.dst.Destroy(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.src.Unpause(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	s.runs(t)
}

// cut: a stream that breaks leaves the guest running at the source and nothing
// at the destination.
func (s *suite) cut(t *testing.T) {
	for _, at := range []int64{20, 5 << 20} {
		_, saved, restored := s.stream(t, at)
		var failed *xen.CommandError
		if !errors.As(saved, &failed) || !errors.As(restored, &failed) {
			t.Errorf("cut after %d bytes: save: %v; restore: %v", at, saved, restored)
		}
		if d, ok := s.find(t, s.dst); ok {
			t.Fatalf("cut after %d bytes: the destination has %+v", at, d)
		}
		s.runs(t)
	}
}

func (s *suite) noImage(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(strings.Repeat("not a saved domain\n", 100)); err != nil {
		t.Fatal(err)
	}
	// The writer stays: Restore must not wait for more.
	_, err = s.dst.Restore(t.Context(), r)
	w.Close()
	if !errors.Is(err, xen.ErrNotImage) {
		t.Errorf("got %v", err)
	}
}

// leftSuspended: an xl that is killed while it saves leaves the guest suspended.
func (s *suite) leftSuspended(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // nobody reads: xl stands still with the guest suspended
	save := exec.Command(s.src.Command[0], append(slices.Clone(s.src.Command[1:]), "save", "-p", strconv.Itoa(s.id), "/dev/stdout")...)
	save.Stdout = w
	if err := save.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	until(t, "the guest is suspended", func() bool { return s.guest(t).State.Suspended() })
	if err := save.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = save.Wait() // it was killed
	if d := s.guest(t); !d.State.Suspended() {
		t.Fatalf("%+v", d)
	}
	if err := s.src.Unpause(t.Context(), s.id); !errors.Is(err, xen.ErrNotPaused) {
		t.Errorf("unpause of a suspended guest: %v", err)
	}
	if err := s.src.ResumeSuspended(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	s.runs(t)
	if err := s.src.ResumeSuspended(t.Context(), s.id); err == nil {
		t.Error("a guest that runs was resumed")
	}
}

func (s *suite) destroyed(t *testing.T) {
	if err := s.src.Destroy(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	if d, ok := s.find(t, s.src); ok {
		t.Errorf("still there: %+v", d)
	}
	if users, err := s.src.DisksInUse(t.Context()); err != nil || users.Of(s.disk) != nil {
		t.Errorf("its disk is in use: %v, %v", users, err)
	}
}

// gone: every method tells a domain that is not there.
func (s *suite) gone(t *testing.T) {
	ctx, x, id := t.Context(), s.src, s.id
	for what, err := range map[string]error{
		"pause":      x.Pause(ctx, id),
		"unpause":    x.Unpause(ctx, id),
		"destroy":    x.Destroy(ctx, id),
		"rename":     x.Rename(ctx, id, "other"),
		"shutdown":   x.Shutdown(ctx, id, xen.Wait),
		"resume":     x.ResumeSuspended(ctx, id),
		"save":       x.Save(ctx, id, os.Stderr),
		"config":     second(x.Config(ctx, id)),
		"guest":      second(x.Guest(ctx, id)),
		"block list": second(x.BlockList(ctx, id)),
	} {
		if !errors.Is(err, xen.ErrNoDomain) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func (s *suite) shutDown(t *testing.T) {
	d, err := s.src.Create(t.Context(), s.cfg, xen.Running)
	if err != nil {
		t.Fatal(err)
	}
	s.runs(t)
	until(t, "the guest is up", func() bool {
		return len(s.ready) == 0 || exec.Command(s.ready[0], s.ready[1:]...).Run() == nil
	})
	if err := s.src.Shutdown(t.Context(), d.ID, xen.Wait); err != nil {
		t.Fatal(err)
	}
	until(t, "its monitor has cleared the domain away", func() bool { _, ok := s.find(t, s.src); return !ok })
}
