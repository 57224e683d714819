package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"xmig/bus"
	"xmig/jobs"
	"xmig/node/journal"
	"xmig/xen"
	"xmig/xen/xlsim"
)

// The test binary is the simulated xl and the holder as well: called with one
// of these words first, it is that program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "xlsim":
			os.Exit(xlsim.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "hold":
			os.Exit(xen.RunHolder(os.Args[2:]))
		case "xl-stub":
			os.Exit(RunStub(os.Args[2:]))
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the programs: each would sleep a second at its end
	goleak.VerifyTestMain(m)
}

const (
	mib  = 1 << 20
	job1 = "01J0000000000000000000000A"
	job2 = "01J0000000000000000000000B"
)

// world is a bus and some simulated hosts.
type world struct {
	t   *testing.T
	ctx context.Context
	dir string
	bus *bus.Bus
}

// Tests that have one wait for processes most of their time, so they run in parallel.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute) // twice eventually's
	t.Cleanup(cancel)
	s, err := bus.StartServer(ctx, bus.ServerConfig{StoreDir: t.TempDir(), Sync: bus.SyncLazy, Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(s.Close)
	b, err := bus.Connect(ctx, bus.Config{InProcess: s, Name: "test", Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(b.Close)
	must(t, b.Setup(ctx, bus.Layout{Replicas: 1, Memory: bus.InMemory}))
	return &world{t: t, ctx: ctx, dir: t.TempDir(), bus: b}
}

// host is a simulated host with its worker.
type host struct {
	*Node
	w   *world
	sim string // directory of the simulated host

	uuid string // of its guest
	pid  int    // of a process that uses one of its disks
}

// host makes a host. Its worker does not run: its ends are called directly.
func (w *world) host(name string, change ...func(*xlsim.HostSpec)) *host {
	w.t.Helper()
	h := &host{w: w, sim: filepath.Join(w.dir, name)}
	spec := xlsim.HostSpec{Name: name, Net: filepath.Join(w.dir, "net"), MemoryMiB: 1024, SuspendTimeout: 50 * time.Millisecond}
	for _, c := range change {
		c(&spec)
	}
	must(w.t, xlsim.CreateHost(h.sim, spec))
	w.t.Cleanup(func() { must(w.t, xlsim.StopHost(h.sim)) })
	for _, dir := range []string{"disks", "save", "boot", "libvirt", "etc-xen/auto"} {
		must(w.t, os.MkdirAll(filepath.Join(h.sim, dir), 0o755))
	}
	h.start(Config{Name: name})
	return h
}

// start makes the worker, anew if there was one; cfg may change what differs
// from start to start.
func (h *host) start(cfg Config) {
	t := h.w.t
	t.Helper()
	if h.Node != nil {
		h.Node.closeAll()
		cfg.Name = h.cfg.Name
	}
	self, err := os.Executable()
	must(t, err)
	sim := []string{self, "xlsim", "--host", h.sim}
	cfg.StateDir, cfg.Holder, cfg.Simulated = filepath.Join(h.sim, "state"), []string{self, "hold", "--"}, true
	cfg.Stub = []string{self, "xl-stub"}
	cfg.XL, cfg.Xenstore = append(sim[:len(sim):len(sim)], "xl"), sim
	cfg.ConfigDir, cfg.SaveDir = h.etc(""), filepath.Join(h.sim, "save")
	cfg.XAPIMark, cfg.LibvirtDirs = filepath.Join(h.sim, "xensource-inventory"), []string{filepath.Join(h.sim, "libvirt")}
	cfg.Bridges, cfg.Pools = []string{"xenbr0"}, []Pool{{Dir: h.disks("")}}
	cfg.Heartbeat, cfg.ProveWait, cfg.ShutdownWait, cfg.MonitorWait = 4*time.Second, 20*time.Second, 20*time.Second, time.Second
	cfg.NewsWait = time.Minute // a busy machine takes long to look
	cfg.Limits = jobs.DefaultLimits()
	cfg.Limits.Backoff, cfg.Limits.MaxBackoff, cfg.Limits.Patience = 20*time.Millisecond, 100*time.Millisecond, 10*time.Second
	lanes, err := bus.StartLaneServer(h.w.ctx, bus.LaneServerConfig{Node: cfg.Name, Listen: "127.0.0.1", Dir: t.TempDir(), Timeout: 5 * time.Second, Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(lanes.Close)
	h.Node, err = New(cfg, h.w.bus, lanes, zerolog.Nop())
	must(t, err)
	life, end := context.WithCancel(context.Background())
	h.life = life
	t.Cleanup(func() { end(); h.Node.closeAll() })
}

func (h *host) etc(name string) string   { return filepath.Join(h.sim, "etc-xen", name) }
func (h *host) disks(name string) string { return filepath.Join(h.sim, "disks", name) }

// guest makes a guest's disks and its config, and starts it.
func (h *host) guest(spec xlsim.GuestSpec, sizes ...int64) jobs.VMRef {
	h.w.t.Helper()
	vm := h.config(spec, sizes...)
	h.xl("create", "-q", h.etc(spec.Name+".cfg"))
	return vm
}

// config makes a halted guest: disks, config file, autostart link.
func (h *host) config(spec xlsim.GuestSpec, sizes ...int64) jobs.VMRef {
	t := h.w.t
	t.Helper()
	if spec.UUID == "" {
		spec.UUID = fmt.Sprintf("5eed0000-0000-4000-8000-%012x", len(t.Name())<<20|len(spec.Name)<<8|int(spec.Name[len(spec.Name)-1]))
	}
	if spec.MemoryMiB == 0 {
		spec.MemoryMiB = 16
	}
	if spec.Rate == 0 {
		spec.Rate = 512 << 10
	}
	for i, size := range sizes {
		vdev := string([]byte{'x', 'v', 'd', byte('a' + i)})
		path := h.disks(spec.Name + "-" + vdev)
		must(t, xlsim.MakeDisk(path, size, xlsim.DefaultMix(uint64(i+1))))
		spec.Disks = append(spec.Disks, xlsim.GuestDisk{Path: path, Vdev: vdev})
	}
	_, err := xlsim.WriteGuestConfig(h.etc(""), spec)
	must(t, err)
	must(t, os.Symlink("../"+spec.Name+".cfg", h.etc("auto/"+spec.Name+".cfg")))
	return jobs.VMRef{UUID: spec.UUID, Name: spec.Name}
}

// xl runs a command of the simulated toolstack by hand.
func (h *host) xl(args ...string) string {
	h.w.t.Helper()
	cmd := exec.Command(h.cfg.XL[0], append(append([]string{}, h.cfg.XL[1:]...), args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		h.w.t.Fatalf("xl %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// state is the VM as the host sees it: its domain's state, halted for a config
// alone, none.
func (h *host) state(vm jobs.VMRef) jobs.VMState {
	h.w.t.Helper()
	copies, err := h.copies(h.w.ctx, vm)
	must(h.w.t, err)
	switch len(copies) {
	case 0:
		return "none"
	case 1:
		return stateOf(copies[0])
	}
	h.w.t.Fatalf("%d copies of %s on %s", len(copies), vm.Name, h.cfg.Name)
	return ""
}

// said lists a host's promises about a VM, in order: "BEGIN(1) READY(1)".
func (h *host) said(vm jobs.VMRef) string {
	h.w.t.Helper()
	_, entries, err := h.open(vm)
	must(h.w.t, err)
	var all []string
	for _, e := range entries {
		all = append(all, fmt.Sprintf("%s(%d)", e.Fact, e.Epoch))
	}
	return strings.Join(all, " ")
}

// promise writes a fact into a host's journal by hand.
func (h *host) promise(vm jobs.VMRef, epoch uint64, data any, facts ...jobs.Fact) {
	h.w.t.Helper()
	log, _, err := h.open(vm)
	must(h.w.t, err)
	raw, err := json.Marshal(data)
	must(h.w.t, err)
	for _, f := range facts {
		_, err := log.Append(journal.Entry{Epoch: epoch, Attempt: fmt.Sprintf("%s.%d", job1, epoch), Fact: string(f), Data: raw})
		must(h.w.t, err)
	}
}

// verify proves that guest and disks belong together on h.
func (h *host) verify(vm jobs.VMRef) {
	h.w.t.Helper()
	r, err := xlsim.Verify(h.w.ctx, h.sim, vm.Name)
	must(h.w.t, err)
	must(h.w.t, r.Err())
	if r.Records == 0 {
		h.w.t.Fatalf("no record was checked: %+v", r)
	}
}

// spec moves every disk into the other host's directory.
func specFor(a, b *host, vm jobs.VMRef, mode jobs.Mode) jobs.Spec {
	return jobs.Spec{VM: vm.UUID, From: a.cfg.Name, To: b.cfg.Name, Mode: mode, MaxDowntime: time.Minute,
		Map: jobs.Mapping{Disks: map[string]string{a.disks(""): b.disks("")}}}.WithDefaults()
}

// newJob is a job whose epoch was won.
func newJob(a, b *host, vm jobs.VMRef, mode jobs.Mode, epoch uint64) jobs.Job {
	return jobs.Job{ID: job1, Attempt: fmt.Sprintf("%s.%d", job1, epoch), Epoch: epoch, Kind: jobs.KindMigrate, VM: vm,
		Source: a.cfg.Name, Destination: b.cfg.Name, Spec: specFor(a, b, vm, mode)}
}

// planned is a job as check leaves it.
func planned(t *testing.T, a, b *host, job jobs.Job) jobs.Job {
	t.Helper()
	plan, blockers, err := jobs.Examine(a.w.ctx, a.src, b.dst, job)
	must(t, err)
	if len(blockers) > 0 {
		t.Fatalf("blocked: %v", blockers)
	}
	job.Plan = plan
	return job
}

// opened brings a job to where its seed could begin.
func opened(t *testing.T, a, b *host, job jobs.Job) jobs.Job {
	t.Helper()
	job = planned(t, a, b, job)
	must(t, a.src.Begin(a.w.ctx, job))
	must(t, b.dst.Reserve(a.w.ctx, job))
	ticket, err := b.dst.Prepare(a.w.ctx, job)
	must(t, err)
	must(t, a.src.Connect(a.w.ctx, job, ticket))
	t.Cleanup(func() { a.src.close(job.ID) })
	return job
}

// stopped brings a job to where the guest stands still.
func stopped(t *testing.T, a, b *host, job jobs.Job) (jobs.Job, jobs.Seal) {
	t.Helper()
	job = opened(t, a, b, job)
	_, err := a.src.Pass(a.w.ctx, job, 1, jobs.SeedPass)
	must(t, err)
	if job.Plan.SendsMemory() {
		must(t, b.dst.Receive(a.w.ctx, job))
	}
	out, err := a.src.Stop(a.w.ctx, job, noFlow)
	must(t, err)
	memory, err := a.src.Drain(a.w.ctx, job)
	must(t, err)
	return job, jobs.Seal{Memory: memory, Run: out.Ran}
}

// noFlow is for those who do not want to know how far memory has come.
func noFlow(jobs.Flow) {}

// sealed brings a job to where both ends vouch for the copy.
func sealed(t *testing.T, a, b *host, job jobs.Job) (jobs.Job, jobs.Seal) {
	t.Helper()
	job, seal := stopped(t, a, b, job)
	p, err := a.src.Pass(a.w.ctx, job, 2, jobs.FinalPass)
	must(t, err)
	seal.Pass, seal.Roots = 2, map[string]jobs.Digest{}
	for _, d := range p.Disks {
		seal.Roots[d.Name] = d.Root
	}
	must(t, a.src.Seal(a.w.ctx, job, seal))
	_, err = b.dst.Ready(a.w.ctx, job, seal)
	must(t, err)
	return job, seal
}

// committed brings a job over the line, and returns what lets b go.
func committed(t *testing.T, a, b *host, job jobs.Job) (jobs.Job, jobs.Permission) {
	t.Helper()
	job, _ = sealed(t, a, b, job)
	there, err := b.dst.Evidence(a.w.ctx, job.VM)
	must(t, err)
	must(t, a.src.Commit(a.w.ctx, job, there.Journal))
	return job, permission(t, a, b, job)
}

func permission(t *testing.T, a, b *host, job jobs.Job) jobs.Permission {
	t.Helper()
	here, err := a.src.Evidence(a.w.ctx, job.VM)
	must(t, err)
	return jobs.Permission{Source: here.Journal,
		Key: &jobs.Owner{VM: job.VM.UUID, Node: b.cfg.Name, Epoch: job.Epoch + 1, Attempt: job.Attempt}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused wants an error that says want.
func refused(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// eventually polls; the deadline is long, for machines that are busy.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// read gives a file's text, "" where there is none.
func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// names lists a directory.
func names(t testing.TB, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range all {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}
