package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childVar holds the errand of a child process: this very program, started again.
const childVar = "XMIG_STORAGE_TEST_CHILD"

// errand is one operation that the child does, and the point at which it is killed.
type errand struct {
	State   string
	Point   string
	Op      string
	Request Request
}

// crashingChild does its errand with a real SIGKILL at the point. It exits with
// 3 if the point was not met.
func crashingChild() {
	var e errand
	if err := json.Unmarshal([]byte(os.Getenv(childVar)), &e); err != nil {
		panic(err)
	}
	h, err := New(Config{StateDir: e.State})
	if err != nil {
		panic(err)
	}
	h.at = func(point string) {
		if point == e.Point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
		}
	}
	if err := operate(h, e.Op, e.Request); err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	os.Exit(3)
}

// operate does one operation by name.
func operate(h *Host, op string, q Request) error {
	ctx := context.Background()
	var err error
	switch op {
	case "create":
		_, err = h.Create(ctx, q)
	case "take":
		q.Existing = TakeExisting
		_, err = h.Create(ctx, q)
	case "adopt":
		_, err = h.Adopt(ctx, q)
	case "shadow":
		_, err = h.Shadow(ctx, q)
	case "retire":
		_, err = h.Retire(ctx, q.Job)
	case "settle":
		_, err = h.Settle(ctx, q.Job)
	case "prune":
		err = h.PruneShadow(ctx, q.Path, time.Now())
	default:
		err = errors.New("unknown operation " + op)
	}
	return err
}

// kill runs the errand in a child and demands that it died at the point.
func kill(t testing.TB, e errand) {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+string(b))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("child at %q: %v: %s", e.Point, err, out)
	}
	if ws, is := exit.Sys().(syscall.WaitStatus); !is || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("child at %q: %v: %s", e.Point, err, out)
	}
}

// picture is everything that must be the same whether or not a crash came
// between: files with content, and records without what is random.
type picture struct {
	Files   map[string]string
	Records []Record
}

func (b bench) picture(t testing.TB) picture {
	t.Helper()
	p := picture{Files: map[string]string{}, Records: recordsOf(t, b.Host, b.disks)}
	err := filepath.WalkDir(b.disks, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if path != b.disks {
				p.Files[strings.TrimPrefix(path, b.disks)] = "directory"
			}
			return err
		}
		c := content(t, path)
		p.Files[strings.TrimPrefix(path, b.disks)] = fmt.Sprintf("%d %q", len(c), strings.TrimRight(c, "\x00"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// recordsOf returns the records without what is random and the start of places.
func recordsOf(t testing.TB, h *Host, prefix string) (out []Record) {
	t.Helper()
	for _, r := range ok[[]Record](t)(h.Volumes(context.Background())) {
		r.Place = strings.TrimPrefix(r.Place, prefix)
		r.ID, r.Identity, r.Time, r.Dirs = "", Identity{}, time.Time{}, nil
		if r.Before != nil {
			before := *r.Before
			before.Time = time.Time{}
			r.Before = &before
		}
		out = append(out, r)
	}
	return out
}

// ground is a host with disks of one kind, on which scenes play.
type ground interface {
	host() *Host
	stateDir() string
	request(job, vm, name string) Request
	data(t testing.TB, name, text string) // a disk that a guest or a stranger has
	picture(t testing.TB) picture
	everythingNamed(t testing.TB, point string)
}

func (b bench) host() *Host      { return b.Host }
func (b bench) stateDir() string { return b.state }

func (b bench) data(t testing.TB, name, text string) {
	t.Helper()
	put(t, filepath.Join(b.disks, name), text)
}

// scene is an operation and what comes before it.
type scene struct {
	name, op string
	prepare  func(t testing.TB, g ground)
	job      string
	undo     bool // Retire of the job brings back what was before
}

func scenes() []scene {
	do := func(g ground, t testing.TB, op, job string) {
		if err := operate(g.host(), op, sceneRequest(g, job)); err != nil {
			t.Fatal(err)
		}
	}
	data := func(t testing.TB, g ground) { g.data(t, "disk", "the guest's data") }
	shadow := func(t testing.TB, g ground) { data(t, g); do(g, t, "shadow", "j0") }
	adopted := func(t testing.TB, g ground) { shadow(t, g); do(g, t, "adopt", "j1") }
	made := func(t testing.TB, g ground) { do(g, t, "create", "j1") }
	return []scene{
		{"create", "create", func(testing.TB, ground) {}, "j1", true},
		{"shadow", "shadow", data, "j0", false},
		{"shadow of what a job made", "shadow", made, "j2", false},
		{"adopt", "adopt", shadow, "j1", true},
		{"create that adopts", "create", shadow, "j1", true},
		{"create that takes what is there", "take", data, "j1", true},
		{"retire made", "retire", made, "j1", false},
		{"retire adopted", "retire", adopted, "j1", false},
		{"settle made", "settle", made, "j1", false},
		{"settle adopted", "settle", adopted, "j1", false},
		{"prune", "prune", shadow, "j0", false},
	}
}

func sceneRequest(g ground, job string) Request {
	q := g.request(job, "vm1", "disk")
	q.Size = 64 << 10
	return q
}

// TestKilledAtEveryPoint kills a real process at every point of every operation
// and shows that repeating it ends where an undisturbed run ends, that going back
// leaves what was before, and that files nearby stay as they are.
func TestKilledAtEveryPoint(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			killedAtPoints(t, s, filesGround, func(string) bool { return true })
		})
	}
}

func killedAtPoints(t *testing.T, s scene, lay func(testing.TB) ground, chosen func(point string) bool) {
	g := stage(t, s, lay)
	before := g.picture(t)
	var points []string
	g.host().at = func(p string) { points = append(points, p) }
	if err := operate(g.host(), s.op, sceneRequest(g, s.job)); err != nil {
		t.Fatal(err)
	}
	want := g.picture(t)
	if reflect.DeepEqual(before, want) || len(points) < 4 {
		t.Fatalf("the operation did nothing; points %v", points)
	}
	for _, point := range points {
		if !chosen(point) {
			continue
		}
		g := killedAt(t, s, lay, point)
		g.everythingNamed(t, point)
		for n := range 2 {
			err := operate(g.host(), s.op, sceneRequest(g, s.job))
			if err != nil {
				t.Fatalf("killed at %q, repeated %d times: %v", point, n+1, err)
			}
			if got := g.picture(t); !reflect.DeepEqual(got, want) {
				t.Fatalf("killed at %q, repeated %d times:\n got %+v\nwant %+v", point, n+1, got, want)
			}
		}
		if !s.undo {
			continue
		}
		g = killedAt(t, s, lay, point)
		if err := operate(g.host(), "retire", sceneRequest(g, s.job)); err != nil {
			t.Fatalf("killed at %q, taken back: %v", point, err)
		}
		got := g.picture(t)
		grown(before, got)
		if !reflect.DeepEqual(got, before) {
			t.Fatalf("killed at %q, taken back:\n got %+v\nwant %+v", point, got, before)
		}
	}
}

// killedAt sets the scene, in which a process dies at point.
func killedAt(t testing.TB, s scene, lay func(testing.TB) ground, point string) ground {
	t.Helper()
	g := stage(t, s, lay)
	kill(t, errand{State: g.stateDir(), Point: point, Op: s.op, Request: sceneRequest(g, s.job)})
	if _, err := g.host().Volumes(context.Background()); err != nil {
		t.Fatalf("killed at %q: registry: %v", point, err)
	}
	return g
}

// grown evens out what an adoption does for good: a file may have become larger.
func grown(before, after picture) {
	for i := range after.Records {
		if i < len(before.Records) {
			after.Records[i].Size = before.Records[i].Size
		}
	}
	for n, c := range after.Files {
		if (n == "/disk" || strings.HasSuffix(n, shadowSuffix)) && strings.HasSuffix(c, `"the guest's data"`) {
			after.Files[n] = before.Files[n]
		}
	}
}

func stage(t testing.TB, s scene, lay func(testing.TB) ground) ground {
	g := lay(t)
	s.prepare(t, g)
	return g
}

func filesGround(t testing.TB) ground {
	b := newBench(t)
	b.data(t, "neighbour", "foreign")
	b.data(t, "disk.xmig-0123456789", "foreign, named like a draft")
	return b
}

// everythingNamed: after a crash each file that is there by our doing is in a record.
func (b bench) everythingNamed(t testing.TB, point string) {
	t.Helper()
	all, err := b.Volumes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"neighbour": true, "disk.xmig-0123456789": true, "disk": len(all) > 0}
	for _, r := range all {
		for _, p := range []string{r.Place, ShadowPath(r.Place), draft(r)} {
			known[filepath.Base(p)] = true
		}
	}
	for _, n := range names(t, b.disks) {
		if n == "disk" && len(all) == 0 {
			continue // the guest's own, before or after
		}
		if !known[n] {
			t.Fatalf("killed at %q: no record names %s", point, n)
		}
	}
}

// TestForeignFileAppearsDuringCrash: between the crash and the repetition
// somebody puts a file where ours was to be. It stays, whatever is repeated.
func TestForeignFileAppearsDuringCrash(t *testing.T) {
	for _, c := range []struct{ op, point, foreign string }{
		{"create", "create: before intent", "disk"},
		{"create", "create: after intent", "disk"},
		{"create", "create: draft known", "disk"},
		{"shadow", "shadow: after intent", "disk" + shadowSuffix},
		{"shadow", "move: tagged", "disk" + shadowSuffix},
		{"adopt", "adopt: after intent", "disk"},
	} {
		t.Run(c.op+" "+c.point, func(t *testing.T) {
			t.Parallel()
			var s scene
			for _, each := range scenes() {
				if each.name == c.op {
					s = each
				}
			}
			b := killedAt(t, s, filesGround, c.point).(bench)
			put(t, filepath.Join(b.disks, c.foreign), "foreign")
			err := operate(b.Host, s.op, sceneRequest(b, s.job))
			wantErr(t, err, ErrTaken)
			if err := operate(b.Host, "retire", sceneRequest(b, s.job)); err != nil {
				t.Fatal(err)
			}
			if got := content(t, filepath.Join(b.disks, c.foreign)); got != "foreign" {
				t.Fatalf("the foreign file became %q", got)
			}
			for _, n := range names(t, b.disks) {
				if strings.HasPrefix(n, "disk.xmig-") && n != "disk.xmig-0123456789" && n != "disk"+shadowSuffix {
					t.Fatalf("draft left: %s", n)
				}
			}
		})
	}
}
