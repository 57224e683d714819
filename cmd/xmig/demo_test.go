package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen/xlsim"
)

// handMoved is a guest moved by hand, with the simulated toolstack alone: the
// demo's judgement must not depend on what it judges. spoil gets its chance
// while the copy at the destination is whole and paused.
func handMoved(t *testing.T, spoil func(s *sabotage)) (*simulation, jobs.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := &demoCmd{VMs: 1, Hosts: 2, RAM: 64 << 20, Disks: []size{16 << 20, 8 << 20}, WriteRate: 8 << 20}
	d, err := newSimulation(c, t.TempDir(), zerolog.Nop())
	must(err)
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	must(d.makeHosts())
	must(d.makeGuests(ctx))
	gu := d.guests[0]
	written := func() int64 {
		r, err := xlsim.Verify(ctx, d.host(gu.from), gu.name)
		must(err)
		must(r.Err())
		return r.Written
	}
	for written() < 6<<20 { // most slots were written twice by then
		time.Sleep(100 * time.Millisecond)
	}
	s := &sabotage{d: d, gu: gu, disk: 1}
	must(copyFile(d.diskPath(gu.to, gu, s.disk), d.diskPath(gu.from, gu, s.disk)))
	must(s.keep())
	for before := written(); written() < before+(4<<20); {
		time.Sleep(100 * time.Millisecond)
	}

	image := filepath.Join(d.dir, "image")
	must(simulatedXL(ctx, d.self, d.host(gu.from), "save", "-p", gu.name, image))
	spec := xlsim.GuestSpec{Name: gu.name, UUID: gu.uuid, MemoryMiB: 64}
	for i := range c.Disks {
		must(copyFile(d.diskPath(gu.to, gu, i), d.diskPath(gu.from, gu, i)))
		spec.Disks = append(spec.Disks, xlsim.GuestDisk{Path: d.diskPath(gu.to, gu, i), Vdev: "xvd" + string(rune('a'+i))})
	}
	cfg, err := xlsim.WriteGuestConfig(filepath.Join(d.host(gu.to), "etc-xen"), spec)
	must(err)
	must(simulatedXL(ctx, d.self, d.host(gu.to), "restore", "-p", cfg, image))
	must(os.Rename(d.config(gu.from, gu), d.config(gu.from, gu)+".migrated-to-"+gu.to))
	must(os.Remove(d.autostart(gu.from, gu)))
	must(os.Symlink(cfg, d.autostart(gu.to, gu)))
	spoil(s)
	must(simulatedXL(ctx, d.self, d.host(gu.to), "unpause", gu.name))
	for i := 0; i < 20; i++ { // heartbeats at the new host
		time.Sleep(50 * time.Millisecond)
		if _, _, err := d.silence(gu); err == nil {
			break
		}
	}
	if domains, err := xlsim.Domains(d.host(gu.from)); err != nil || len(domains) > 0 {
		must(err)
		must(simulatedXL(ctx, d.self, d.host(gu.from), "destroy", gu.name))
	}
	for i := range c.Disks {
		must(os.Rename(d.diskPath(gu.from, gu, i), storage.ShadowPath(d.diskPath(gu.from, gu, i))))
	}
	return d, jobs.Record{State: jobs.Succeeded, Source: gu.from, Destination: gu.to}
}

// judged says what was found wrong, by its name.
func judged(t *testing.T, d *simulation, rec jobs.Record) map[string]string {
	t.Helper()
	p := d.prove(context.Background(), d.guests[0], rec)
	bad := map[string]string{}
	for _, f := range p.Findings {
		if !f.OK {
			bad[f.What] = f.Seen
		}
	}
	if p.OK() != (len(bad) == 0) {
		t.Errorf("OK is %t with %v", p.OK(), bad)
	}
	return bad
}

func TestDemoFindsNothingWrong(t *testing.T) {
	d, rec := handMoved(t, func(*sabotage) {})
	if bad := judged(t, d, rec); len(bad) > 0 {
		t.Errorf("a good move is judged wrong: %v", bad)
	}
	// What is left behind, or missing, is found too.
	gu := d.guests[0]
	for what, spoil := range map[string]func() error{
		"config": func() error { return os.WriteFile(d.config(gu.from, gu), nil, 0o600) },
		"shadow": func() error { return os.Truncate(storage.ShadowPath(d.diskPath(gu.from, gu, 0)), 100) },
		"job":    func() error { rec.State = jobs.RolledBack; return nil },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if bad := judged(t, d, rec); bad[what] == "" {
			t.Errorf("%s was spoiled and not noticed: %v", what, bad)
		}
	}
}

func TestDemoFindsWhatIsBroken(t *testing.T) {
	ctx := context.Background()
	for how, where := range map[string]string{"skip-delta": "content", "stale-page": "content on arrival", "drop-record": "content on arrival", "two-copies": "one copy"} {
		t.Run(how, func(t *testing.T) {
			var arrived []show.Finding
			d, rec := handMoved(t, func(s *sabotage) {
				s.d.cmd.Break = how
				if err := s.spoil(ctx); err != nil {
					t.Fatal(err)
				}
				arrived = s.seen
			})
			bad := judged(t, d, rec)
			for _, f := range arrived {
				if !f.OK {
					bad[f.What] = f.Seen
				}
			}
			if bad[where] == "" {
				t.Errorf("not noticed; only %v", bad)
			} else {
				t.Log(strings.SplitN(bad[where], "; ", 2)[0])
			}
		})
	}
}
