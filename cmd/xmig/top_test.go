package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
)

// TestTopLives: on a terminal what changes is drawn over what was, and Ctrl-C
// is the way out.
func TestTopLives(t *testing.T) {
	url, b := testBus(t)
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	rec, err := b.Records().Create(ctx, record("01JDB3Q6Y0ZJ8X5V9W2K7T4R1M", jobs.Running))
	if err != nil {
		t.Fatal(err)
	}
	mine, err := bus.Connect(ctx, bus.Config{URL: url, Name: "top", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	life, end := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan error, 1)
	l := newLatest()
	if err := l.read(ctx, mine); err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- l.live(life, mine, &terminal{Out: w, Width: 120, Height: 40, Bars: true}, 20*time.Millisecond)
		_ = w.Close()
	}()
	screens := make(chan string)
	go func() {
		defer close(screens)
		buf := make([]byte, 64<<10) // a screen is one write
		for {
			n, err := r.Read(buf)
			if err != nil {
				return
			}
			screens <- string(buf[:n])
		}
	}()
	until := func(want string) {
		t.Helper()
		for s := range screens {
			b.Report(jobs.Progress{Job: rec.ID, VM: rec.VM, Pass: 1, At: time.Now(), Disks: []jobs.DiskProgress{{Name: "xvda", Size: 1000, Done: 420, Rate: 1 << 20}}})
			if strings.Contains(s, want) {
				return
			}
		}
		t.Fatalf("never on the screen: %s", want)
	}
	until("0 hosts  jobs: 1 running")
	until("42 %")
	announce(t, b, jobs.Host{Node: "hv7", Instance: "a", Home: "a"})
	until("hv7")
	rec.State, rec.Ended = jobs.Succeeded, time.Now()
	if _, err := b.Records().Save(ctx, rec); err != nil {
		t.Fatal(err)
	}
	until("1 succeeded")
	end()
	for range screens {
	}
	if err := <-done; err != nil {
		t.Errorf("left by Ctrl-C: %v", err)
	}
}
