package show

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"xmig/jobs"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

const mib = 1 << 20

// moved is a job that succeeded after one failed attempt.
func moved() jobs.Record {
	disk := func(name string, size, same, diff, zero, wire int64, took time.Duration) jobs.DiskReport {
		return jobs.DiskReport{Name: name, Size: size, Same: same, Differing: diff, Zero: zero, Sent: diff*mib - zero, Wire: wire, Elapsed: took}
	}
	return jobs.Record{
		ID: "01JDB3Q6Y0ZJ8X5V9W2K7T4R1M", Spec: jobs.Spec{VM: "web01", To: "hv2"}.WithDefaults(),
		VM: jobs.VMRef{UUID: "5eed0000-0000-4000-8000-000000000001", Name: "web01"}, Source: "hv1", Destination: "hv2",
		State: jobs.Succeeded, Step: jobs.Settle, Attempt: 2, Epoch: 5, HandedOver: true,
		Plan: jobs.Plan{Mode: jobs.Suspend, Why: "live needs shadow paging, which hv1 lacks", Predicted: 4 * time.Second},
		Failure: &jobs.Failure{Step: jobs.Seed, Class: jobs.Retry, Code: jobs.CodeLane, Text: "lane to hv2 lost",
			At: noon.Add(-30 * time.Second), Attempt: 1},
		Report: jobs.Report{
			Steps: []jobs.StepReport{
				{Step: jobs.Check, Attempt: 2, Begin: noon, Elapsed: 120 * time.Millisecond},
				{Step: jobs.Seed, Attempt: 2, Begin: noon.Add(time.Second), Elapsed: 4200 * time.Millisecond},
			},
			Passes: []jobs.PassReport{
				{Number: 1, Kind: jobs.SeedPass, Elapsed: 4 * time.Second, Disks: []jobs.DiskReport{
					disk("xvda", 512*mib, 12, 500, 200*mib, 301*mib, 4*time.Second), disk("xvdb", 128*mib, 127, 1, mib, 8192, time.Second)}},
				{Number: 2, Kind: jobs.DeltaPass, Elapsed: 900 * time.Millisecond, Disks: []jobs.DiskReport{
					disk("xvda", 512*mib, 492, 20, 0, 3*mib, 900*time.Millisecond)}},
				{Number: 3, Kind: jobs.FinalPass, Elapsed: 700 * time.Millisecond, Disks: []jobs.DiskReport{
					disk("xvda", 512*mib, 507, 5, 0, 1*mib, 700*time.Millisecond)}},
			},
			Memory:    &jobs.Memory{Bytes: 64 * mib, Wire: 20 * mib, Elapsed: 500 * time.Millisecond},
			Predicted: 2100 * time.Millisecond, Blackout: 1650 * time.Millisecond,
			StoppedAt: noon.Add(6 * time.Second), RanAt: noon.Add(7650 * time.Millisecond), DomID: 7, Wire: 325 * mib,
			Notes: []string{"kernel /boot/vmlinuz-domu was copied to hv2"},
		},
		Created: noon.Add(-time.Minute), Started: noon, Ended: noon.Add(9 * time.Second), Updated: noon.Add(9 * time.Second),
	}
}

func TestReport(t *testing.T) {
	golden(t, "report-succeeded", Report(moved()))

	blocked := jobs.Record{
		ID: "01JDB3Q6Y0ZJ8X5V9W2K7T4R1N", Spec: jobs.Spec{VM: "db 01"}.WithDefaults(), VM: jobs.VMRef{Name: "db 01"},
		Source: "hv1", Destination: "hv3", State: jobs.FailedState, Step: jobs.Check, Attempt: 1, Created: noon, Started: noon, Ended: noon.Add(time.Second),
		Failure: &jobs.Failure{Step: jobs.Check, Class: jobs.Final, Code: jobs.CodeBlocked, Text: "2 blockers", Blockers: []jobs.Blocker{
			{Host: "hv3", Disk: "xvda", Code: "space", Text: "12 GiB free, needs 40 GiB", Next: "free space, or --map it elsewhere"},
			{Host: "hv3", Code: "name", Text: "a domain of that name is there"}}},
	}
	golden(t, "report-blocked", Report(blocked))

	lost := moved()
	lost.State, lost.Report.Blackout, lost.Leftover = jobs.Indeterminate, 0, []string{"hv2: domain 7 is paused"}
	lost.Failure = &jobs.Failure{Step: jobs.Resume, Code: jobs.CodeAway, Text: "hv2 does not answer", At: noon, Attempt: 2}
	golden(t, "report-indeterminate", Report(lost))

	sync := moved()
	sync.Spec = jobs.Spec{Kind: jobs.KindSync, From: "hv1", SyncFrom: "/dev/vg0/data", To: "hv2", SyncTo: "/dev/vg1/data"}.WithDefaults()
	sync.Failure, sync.Report.Memory, sync.Report.Notes = nil, nil, nil
	golden(t, "report-sync", Report(sync))
}

// TestReportSaysWhereTheVMIs: of every state the first line names the VM and a host.
func TestReportSaysWhereTheVMIs(t *testing.T) {
	for _, s := range jobs.States() {
		r := moved()
		r.State = s
		first, _, _ := strings.Cut(Report(r), "\n")
		if !strings.Contains(first, "web01") || !strings.Contains(first, "hv1") {
			t.Errorf("%s: %q names no VM or host", s, first)
		}
	}
	twice := moved()
	twice.State, twice.Failure = jobs.Indeterminate, &jobs.Failure{Code: jobs.CodeTwoCopies}
	if got := Report(twice); !strings.HasPrefix(got, "web01 RUNS TWICE: on hv1 and on hv2") {
		t.Errorf("two copies: %q", got)
	}
}

func TestLines(t *testing.T) {
	end := moved()
	start := jobs.Record{ID: end.ID, Spec: end.Spec, VM: end.VM, Source: "hv1", Destination: "hv2", State: jobs.Queued, Updated: noon}
	seeding := start
	seeding.State, seeding.Step, seeding.Attempt, seeding.Updated = jobs.Running, jobs.Seed, 1, noon.Add(time.Second)
	seeding.Held = &jobs.Flag{Reason: "waits for a person", Since: noon.Add(time.Second)}
	var out []string
	prev := jobs.Record{}
	for _, r := range []jobs.Record{start, seeding, end, end} {
		out = append(out, Lines(prev, r)...)
		prev = r
	}
	golden(t, "lines", strings.Join(out, "\n")+"\n")
}

// TestLinesTellEveryStepOnce: however records are skipped on the way, each
// finished step is told once, and never begins after its end.
func TestLinesTellEveryStepOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := jobs.Record{ID: "j", State: jobs.Running, VM: jobs.VMRef{Name: "v"}, Attempt: 1, Updated: noon}
		var prev jobs.Record
		told, ended := 0, map[string]bool{}
		total := rapid.IntRange(1, 20).Draw(t, "steps")
		for i := range total {
			rec.Step, rec.Attempt = jobs.Steps()[i%10], 1+i/10
			rec.Report.Steps = append(rec.Report.Steps[:len(rec.Report.Steps):len(rec.Report.Steps)],
				jobs.StepReport{Step: rec.Step, Attempt: 1 + i/10, Begin: noon.Add(time.Duration(i) * time.Second)})
			if i == total-1 || rapid.Bool().Draw(t, "seen") {
				for _, l := range Lines(prev, rec) {
					_, step, _ := strings.Cut(l, " step=")
					step, _, _ = strings.Cut(step, " elapsed=")
					switch {
					case strings.Contains(l, " what=step.end "):
						told++
						ended[step] = true
					case strings.Contains(l, " what=step.begin ") && ended[step]:
						t.Fatalf("it ended before: %s", l)
					}
				}
				prev = rec
			}
		}
		if told != total {
			t.Fatalf("%d of %d steps were told", told, total)
		}
	})
}

func TestBars(t *testing.T) {
	v := View{Record: moved(), Progress: jobs.Progress{Pass: 1, Kind: jobs.SeedPass, Disks: []jobs.DiskProgress{
		{Name: "xvdb", Size: 128 * mib, Done: 128 * mib, Wire: 1000, Rate: 200 * mib},
		{Name: "xvda", Size: 512 * mib, Done: 128 * mib, Wire: 60 * mib, Rate: 64 * mib},
		{Name: "xvdc", Size: 256 * mib},
	}}}
	v.Record.State, v.Record.Step = jobs.Running, jobs.Seed
	golden(t, "bars", strings.Join(Bars(v, 160), "\n")+"\n")
	v.Record.State, v.Record.Failure = jobs.Succeeded, nil
	golden(t, "bars-ended", strings.Join(Bars(v, 160), "\n")+"\n")
}

// TestBarsFit: no line is wider than the terminal, whatever is in it: a line
// that wraps cannot be redrawn.
func TestBarsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(20, 200).Draw(t, "width")
		v := View{Record: moved()}
		v.Record.State, v.Record.Step = jobs.Running, jobs.Converge
		v.Record.VM.Name = rapid.StringN(1, 40, 60).Draw(t, "name")
		v.Progress.Disks = []jobs.DiskProgress{{
			Name: rapid.StringN(1, 10, 30).Draw(t, "disk"), Size: rapid.Int64Range(0, 1<<50).Draw(t, "size"),
			Done: rapid.Int64Range(0, 1<<50).Draw(t, "done"), Rate: rapid.Float64Range(0, 1e12).Draw(t, "rate"),
		}}
		for _, l := range Bars(v, width) {
			if n := utf8.RuneCountInString(l); n > width {
				t.Fatalf("%d characters on %d: %q", n, width, l)
			}
		}
	})
}

func TestRedraw(t *testing.T) {
	if got, want := Redraw(2, []string{"a", "b"}), "\x1b[2A\r\x1b[Ja\nb\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Redraw(0, nil), "\r\x1b[J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTables(t *testing.T) {
	second := moved()
	second.ID, second.State, second.Step, second.Report.Blackout = "01JDB3Q6Y0ZJ8X5V9W2K7T4R1P", jobs.Running, jobs.Converge, 0
	second.Held = &jobs.Flag{Reason: "waits"}
	golden(t, "jobs", Jobs([]jobs.Record{moved(), second}, noon.Add(time.Hour)))

	vm := jobs.VM{VMRef: jobs.VMRef{UUID: "5eed0000-0000-4000-8000-000000000001", Name: "web\t01"}, State: jobs.VMRunning, Type: "pvh",
		Memory: 64 * mib, VCPUs: 1, Config: "/etc/xen/web01.cfg", Autostart: true, Bridges: []string{"xenbr0"},
		Disks: []jobs.Disk{{Name: "xvda", Path: "/dev/vg0/web01", Size: 512 * mib, Allocated: 100 * mib, Kind: "block"}, {Name: "hdc", Path: "/iso/a.iso", Size: mib, Kind: "file", ReadOnly: true}}}
	hosts := []jobs.Host{
		{Node: "hv1", Hostname: "hv1.example", Simulated: true, Version: "1.0", Xen: "4.17.7", VirtCaps: []string{"pv", "hvm"}, CPUs: 4,
			Memory: 8 << 30, FreeMemory: 3 << 30, Bridges: []string{"xenbr0"}, Pools: []jobs.Pool{{Name: "/srv", Free: 1 << 30, Size: 4 << 30}, {Name: "/var", Free: 2 << 30}},
			Sends: &jobs.Sending{Bandwidth: jobs.Bandwidth{Rate: 100 * mib, Hours: []jobs.RateHours{{Hours: "mon-fri 08:00-18:00", Rate: 50 * mib}, {Hours: "22:00-06:00"}}},
				Now: 50 * mib, Named: "mon-fri 08:00-18:00"},
			VMs: []jobs.VM{vm}, Started: noon, Seen: noon.Add(50 * time.Second)},
		{Node: "hv2", Problem: "xl list: exit code 1", Seen: noon},
	}
	golden(t, "hosts", Hosts(hosts, nil, noon.Add(time.Minute)))
	golden(t, "host", Host(hosts[0], noon.Add(time.Minute)))
	golden(t, "vms", VMs(hosts))
	golden(t, "vm", VM("hv1", vm, &jobs.Owner{Node: "hv1", Epoch: 3, Claim: second.ID})+VM("hv1", vm, nil))
}

func TestSends(t *testing.T) {
	for want, s := range map[string]*jobs.Sending{
		"-":                               nil,
		"without a limit (as configured)": {},
		"at most 5 MiB/s (wished by ann)": {Bandwidth: jobs.Bandwidth{Rate: 5 * mib}, Now: 5 * mib, By: "ann"},
		"without a limit now; at most 5 MiB/s 08:00-18:00, else without a limit (as configured)": {
			Bandwidth: jobs.Bandwidth{Hours: []jobs.RateHours{{Hours: "08:00-18:00", Rate: 5 * mib}}}},
	} {
		if got := Sends(s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPlan(t *testing.T) {
	plan := jobs.Plan{Mode: jobs.Suspend, Why: "asked for", Predicted: 3 * time.Second, Guest: jobs.Guest{VM: jobs.VM{Memory: 64 * mib}},
		Disks: []jobs.DiskMove{{Name: "xvda", From: "/dev/vg0/a", To: "/dev/ssd/a", Size: 512 * mib, Allocated: 100 * mib}}}
	golden(t, "plan", Plan("web01", "hv1", "hv2", plan, nil)+
		Plan("web01", "hv1", "hv3", plan, []jobs.Blocker{{Host: "hv3", Disk: "xvda", Text: "no space", Next: "free some"}}))
}

func TestProven(t *testing.T) {
	good := Proof{VM: "web01", Record: moved(), Outside: 1700 * time.Millisecond, Findings: []Finding{{"content", true, "all right"}}}
	bad := good
	bad.Findings = []Finding{{"content", false, "xvda slot 7: record 12, want 13"}}
	golden(t, "proven", Proven([]Proof{good, bad}, 30*time.Second))
	if good.OK() != true || bad.OK() || (Proof{}).OK() {
		t.Error("OK must mean that something was looked at and nothing was wrong")
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 512 * mib: "512 MiB", 5 << 40: "5 TiB", -1536: "-1.5 KiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 1500 * time.Microsecond: "2ms", 1650 * time.Millisecond: "1.6s", 61 * time.Second: "1m01s", 90 * time.Minute: "1h30m", -time.Second: "-1.0s"} {
		if got := Span(d); got != want {
			t.Errorf("Span(%s) = %q, want %q", d, got, want)
		}
	}
	if Over(10, 0) != 0 {
		t.Error("no time, no rate")
	}
	c := Copied{Size: 10 * mib, Same: 8 * mib, Differing: 2 * mib, Zero: mib, Sent: mib, Wire: 900 << 10, Elapsed: 2 * time.Second, Verified: true}
	if got, want := CopiedLine(c), "10 MiB: same 8 MiB, differing 2 MiB (zero 1 MiB), sent 1 MiB, 900 KiB on the wire in 2.0s, 5 MiB/s, read again and equal"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
