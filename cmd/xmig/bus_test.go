package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
)

// testBus is an embedded bus that commands can reach, and a connection to it.
func testBus(t *testing.T) (string, *bus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := bus.StartServer(ctx, bus.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1", Port: -1, Sync: bus.SyncLazy, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b, err := bus.Connect(ctx, bus.Config{InProcess: s, Name: "test", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.Setup(ctx, bus.Layout{Replicas: 1, Memory: bus.InMemory}); err != nil {
		t.Fatal(err)
	}
	return s.ClientURL(), b
}

// command runs a command line in this process.
func command(t *testing.T, url string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(append(args, "--nats", url, "--timeout", "5s"), &terminal{Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func announce(t *testing.T, b *bus.Bus, h jobs.Host) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.Seen, h.Started = time.Now(), time.Now()
	p, err := b.Announce(ctx, bus.Announcement{Snapshot: func() jobs.Host { return h }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }() // ends with ctx
	t.Cleanup(func() { cancel(); <-done })
}

func record(id string, s jobs.State) jobs.Record {
	return jobs.Record{ID: id, Spec: jobs.Spec{VM: "web01", To: "hv2"}.WithDefaults(), VM: jobs.VMRef{UUID: testUUID, Name: "web01"},
		Source: "hv1", Destination: "hv2", State: s, Step: jobs.Seed, Attempt: 1, Created: time.Now(), Updated: time.Now()}
}

const testUUID = "5eed0000-0000-4000-8000-000000000001"

// TestLooking: what is on the bus is what the commands show, as tables and as
// JSON with the names that records have.
func TestLooking(t *testing.T) {
	url, b := testBus(t)
	ctx := context.Background()
	for _, r := range []jobs.Record{record("01JDB3Q6Y0ZJ8X5V9W2K7T4R1M", jobs.RolledBack), record("01JDB4Q6Y0ZJ8X5V9W2K7T4R1M", jobs.Running)} {
		if _, err := b.Records().Create(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	announce(t, b, jobs.Host{Node: "hv1", Instance: "a", Home: "a", Simulated: true, Xen: "4.17.7", VMs: []jobs.VM{{VMRef: jobs.VMRef{UUID: testUUID, Name: "web01"}, State: jobs.VMRunning}}})
	announce(t, b, jobs.Host{Node: "hv2", Instance: "b", Home: "b", Problem: "xl list: exit code 1"})

	for _, c := range []struct {
		args string
		code int
		out  string
		errs string
	}{
		{"job ls", 0, "01JDB3Q6Y0ZJ8X5V9W2K7T4R1M", ""},
		{"job ls --state rolled_back", 0, "rolled_back", ""},
		{"job show 01JDB3", 0, "web01 did not move: it was held for a while and runs on hv1 again", ""},
		{"job show 01JDB", 2, "", "01JDB: 2 jobs begin so"},
		{"job show 01JDB9", 2, "", "no job and no job of a VM is called 01JDB9; `xmig job ls` lists what there is"},
		{"job show web01", 0, "01JDB4Q6Y0ZJ8X5V9W2K7T4R1M", ""}, // the newest
		{"job show " + testUUID, 0, "01JDB4Q6Y0ZJ8X5V9W2K7T4R1M", ""},
		{"job show web.01", 2, "", "no job and no job of a VM is called web.01"},
		{"job watch 01JDB3", 5, "state=rolled_back", ""},
		{"job watch 01JDB4 --wait-for 300ms", 4, "state=running", "the job goes on: xmig job watch 01JDB4Q6Y0ZJ8X5V9W2K7T4R1M"},
		{"job cancel 01JDB3", 3, "", "has ended: rolled_back"},
		{"job logs 01JDB3", 0, "", ""},
		{"host ls", 0, "SIMULATED", ""},
		{"host show hv2", 0, "xl list: exit code 1", ""},
		{"host show hv9", 2, "", "host hv9 is not there"},
		{"vm ls", 0, "web01  hv1   running", ""},
		{"vm ls --host hv9", 2, "", "host hv9 is not there"},
		{"vm show web01", 0, testUUID, ""},
		{"vm show web02", 2, "", "no host that is there has it"},
		{"vm show web01 --host hv2", 2, "", "host hv2 does not have it"},
		{"check web02 --to hv2", 2, "", "vm web02: no host"},
		{"check web01 --to hv9", 2, "", "host hv9 is not there"},
		{"check hv1", 3, "", "hv1: host hv1 does not answer"},
		{"check nobody", 2, "", "no VM and no host named nobody"},
		{"submit web01 --to hv2", 1, "", "start `xmig server`"},
		{"top", 0, "2 hosts  jobs: 1 running, 1 rolled_back", ""},
		{"top --once", 0, "web01  hv1   hv2  running", ""},
		{"top --every 1ms", 2, "", "want 100ms or more"},
	} {
		code, out, errs := command(t, url, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("xmig %s: exit code %d, want %d\nstdout, wants %q:\n%s\nstderr, wants %q:\n%s", c.args, code, c.code, c.out, out, c.errs, errs)
		}
		if strings.Contains(out+errs, "\x1b") {
			t.Errorf("xmig %s: escape codes on a pipe", c.args)
		}
	}

	for args, want := range map[string]string{
		"job ls --active": `"state":"running"`, "job show 01JDB3": `"state":"rolled_back"`, "host ls": `"simulated":true`,
		"host show hv1": `"node":"hv1"`, "vm ls": `"host":"hv1"`, "vm show web01": `"uuid":"` + testUUID + `"`, "job ls --vm none": `[]`,
		"job watch 01JDB3": `"id":"01JDB3Q6Y0ZJ8X5V9W2K7T4R1M"`, "top": `"totals":{"rolled_back":1,"running":1}`,
	} {
		_, out, errs := command(t, url, append(strings.Fields(args), "-o", "json")...)
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(out)); err != nil || !strings.Contains(b.String(), want) || errs != "" {
			t.Errorf("xmig %s -o json: %v, want %s in\n%s%s", args, err, want, out, errs)
		}
	}
}

// TestWatchTellsEveryChange follows a job while its record changes.
func TestWatchTellsEveryChange(t *testing.T) {
	url, b := testBus(t)
	ctx := context.Background()
	rec, err := b.Records().Create(ctx, record("01JDB3Q6Y0ZJ8X5V9W2K7T4R1M", jobs.Running))
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan error, 1)
	watching, seen := context.WithCancel(ctx)
	go func() {
		<-watching.Done()
		changed <- func() (err error) {
			for _, step := range []jobs.StepName{jobs.Converge, jobs.Stream, jobs.Settle} {
				rec.Report.Steps = append(rec.Report.Steps, jobs.StepReport{Step: rec.Step, Attempt: 1, Begin: time.Now(), Elapsed: time.Second})
				rec.Step, rec.Updated = step, time.Now()
				if rec, err = b.Records().Save(ctx, rec); err != nil {
					return err
				}
			}
			rec.State, rec.HandedOver, rec.Report.DomID = jobs.Succeeded, true, 7
			rec, err = b.Records().Save(ctx, rec)
			return err
		}()
	}()
	var e bytes.Buffer
	o := &notice{want: "state=running", seen: seen}
	code := run([]string{"job", "watch", "01JDB3", "--nats", url}, &terminal{Out: o, Err: &e})
	out, errs := o.b.String(), e.String()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	if code != 0 || errs != "" {
		t.Errorf("exit code %d, stderr %s", code, errs)
	}
	for _, want := range []string{"what=step.end step=seed", "what=step.end step=converge", "what=step.end step=stream", "what=handed_over to=hv2", "state=succeeded", "web01 runs on hv2 (domain 7)"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("%q is there %d times, want once:\n%s", want, strings.Count(out, want), out)
		}
	}
}

// TestBarsOnATerminal: on a terminal the same job is bars, which are gone at the end.
func TestBarsOnATerminal(t *testing.T) {
	url, b := testBus(t)
	ctx, cancel := context.WithCancel(context.Background())
	rec, err := b.Records().Create(ctx, record("01JDB3Q6Y0ZJ8X5V9W2K7T4R1M", jobs.Running))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // tells progress until the bars were seen, then ends the job
		defer close(done)
		for i := int64(0); ctx.Err() == nil; i++ {
			b.Report(jobs.Progress{Job: rec.ID, VM: rec.VM, Step: jobs.Seed, Pass: 1, Kind: jobs.SeedPass, At: time.Now(),
				Disks: []jobs.DiskProgress{{Name: "xvda", Size: 1 << 30, Done: i << 20, Rate: 1 << 20}}})
			time.Sleep(10 * time.Millisecond)
		}
		rec.State = jobs.Cancelled
		if _, err := b.Records().Save(context.Background(), rec); err != nil {
			t.Error(err)
		}
	}()
	out := &notice{want: "xvda", seen: cancel}
	var errs bytes.Buffer
	code := run([]string{"job", "watch", rec.ID, "--nats", url}, &terminal{Out: out, Err: &errs, Width: 100, Bars: true})
	<-done
	text := out.b.String()
	if code != exitCancelled || !strings.Contains(text, "\x1b[J") || !strings.Contains(text, "did not move and stays on hv1: cancelled") {
		t.Errorf("exit code %d, stderr %s, stdout %q", code, &errs, text)
	}
}

// notice is a writer that says when a text was written.
type notice struct {
	b    bytes.Buffer
	want string
	seen func()
}

func (n *notice) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(n.want)) {
		n.seen()
	}
	return n.b.Write(p)
}
