package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"xmig/cmd/xmig/show"
	"xmig/jobs"
	"xmig/node/storage"
	"xmig/xen/xlsim"
)

// guest is one VM of the demo.
type guest struct {
	name, uuid string
	from, to   string // hosts
	seed       uint64
}

func newGuest(c *demoCmd, i int) guest {
	return guest{
		name: fmt.Sprintf("web%02d", i+1),
		uuid: fmt.Sprintf("5eed0000-0000-4000-8000-%012d", i+1),
		from: hostName(i % c.Hosts), to: hostName((i + 1) % c.Hosts), seed: uint64(i + 1),
	}
}

func (d *simulation) disks(host string) string { return simulatedDisks(d.host(host)) }

func (d *simulation) diskPath(host string, gu guest, i int) string {
	return simulatedDisk(d.disks(host), gu.name, i)
}

// makeGuests makes the disks and starts the guests.
func (d *simulation) makeGuests(ctx context.Context) error {
	for _, gu := range d.guests {
		err := simulatedGuest{
			Name: gu.name, UUID: gu.uuid, Host: d.host(gu.from), RAM: d.cmd.RAM, Disks: d.cmd.Disks, WriteRate: d.cmd.WriteRate, Seed: gu.seed,
		}.create(ctx, d.self)
		if err != nil {
			return err
		}
	}
	for i := range d.cmd.Hosts { // where guests arrive
		if err := os.MkdirAll(d.disks(hostName(i)), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (d *simulation) config(host string, gu guest) string {
	return filepath.Join(d.host(host), "etc-xen", gu.name+".cfg")
}

func (d *simulation) autostart(host string, gu guest) string {
	return filepath.Join(d.host(host), "etc-xen", "auto", gu.name+".cfg")
}

// prove looks at everything that a migration must leave, at both hosts.
func (d *simulation) prove(ctx context.Context, gu guest, rec jobs.Record) show.Proof {
	p := show.Proof{VM: gu.name, Record: rec}
	for _, look := range []struct {
		what string
		see  func() (string, error)
	}{
		{"job", func() (string, error) { return succeeded(rec) }},
		{"content", func() (string, error) { return d.content(ctx, gu) }},
		{"one copy", func() (string, error) { return d.oneCopy(gu) }},
		{"config", func() (string, error) { return d.configMoved(gu) }},
		{"shadow", func() (string, error) { return d.shadowKept(gu) }},
		{"silence", func() (seen string, err error) {
			p.Outside, seen, err = d.silence(gu)
			return seen, err
		}},
	} {
		seen, err := look.see()
		if err != nil {
			seen = oneLine(err)
		}
		p.Findings = append(p.Findings, show.Finding{What: look.what, OK: err == nil, Seen: seen})
	}
	return p
}

func succeeded(rec jobs.Record) (string, error) {
	if rec.State != jobs.Succeeded {
		text := string(rec.State)
		if rec.Failure != nil {
			text += ": " + rec.Failure.Text
		}
		return "", errors.New(text)
	}
	return "succeeded", nil
}

// content reads all memory and all records of the guest where it runs now.
func (d *simulation) content(ctx context.Context, gu guest) (string, error) {
	r, err := xlsim.Verify(ctx, d.host(gu.to), gu.name)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("all %d pages of memory and all %d records on %d disks are right at %s; the guest wrote and fsynced %s so far", r.Pages, r.Records, len(d.cmd.Disks), gu.to, show.Bytes(r.Written)), nil
}

// oneCopy asks the witness who ran when, and both hosts what they have.
func (d *simulation) oneCopy(gu guest) (string, error) {
	bad, err := xlsim.Violations(d.net(), gu.uuid)
	if err != nil {
		return "", err
	}
	if len(bad) > 0 {
		return "", fmt.Errorf("the witness saw: %s", strings.Join(bad, "; "))
	}
	for host, want := range map[string]int{gu.from: 0, gu.to: 1} {
		domains, err := xlsim.Domains(d.host(host))
		if err != nil {
			return "", err
		}
		have := 0
		for _, dom := range domains {
			if dom.UUID == gu.uuid {
				have++
			}
		}
		if have != want {
			return "", fmt.Errorf("%d domains with its UUID on %s, want %d", have, host, want)
		}
	}
	return fmt.Sprintf("the witness never saw two; now only %s has it", gu.to), nil
}

func (d *simulation) configMoved(gu guest) (string, error) {
	var errs []error
	must := func(path string, there bool) {
		_, err := os.Lstat(path)
		switch {
		case there && err != nil:
			errs = append(errs, err)
		case !there && err == nil:
			errs = append(errs, fmt.Errorf("%s is still there", path))
		case !there && !errors.Is(err, os.ErrNotExist):
			errs = append(errs, err)
		}
	}
	must(d.config(gu.to, gu), true)
	must(d.autostart(gu.to, gu), true)
	must(d.config(gu.from, gu), false)
	must(d.autostart(gu.from, gu), false)
	must(d.config(gu.from, gu)+".migrated-to-"+gu.to, true)
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return fmt.Sprintf("config and autostart link are on %s only; that of %s is parked", gu.to, gu.from), nil
}

func (d *simulation) shadowKept(gu guest) (string, error) {
	for i, size := range d.cmd.Disks {
		info, err := os.Stat(storage.ShadowPath(d.diskPath(gu.from, gu, i)))
		if err != nil {
			return "", err
		}
		if info.Size() != int64(size) {
			return "", fmt.Errorf("%s has %d bytes, want %d", info.Name(), info.Size(), size)
		}
	}
	return fmt.Sprintf("%d disks are kept on %s as shadows", len(d.cmd.Disks), gu.from), nil
}

// silence is the blackout as seen from outside: between the last heartbeat at
// the old host and the first at the new one.
func (d *simulation) silence(gu guest) (time.Duration, string, error) {
	gaps, err := xlsim.Blackouts(d.net(), gu.uuid)
	if err != nil {
		return 0, "", err
	}
	for _, gap := range gaps {
		if gap.FromHost == gu.from && gap.ToHost == gu.to {
			silent := gap.Length()
			return silent, fmt.Sprintf("%s from %s to %s", show.Span(silent), gu.from, gu.to), nil
		}
	}
	return 0, "", fmt.Errorf("no heartbeat went from %s to %s", gu.from, gu.to)
}
