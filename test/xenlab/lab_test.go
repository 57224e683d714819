package xenlab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
	"xmig/test/moves"
)

// lab is the lab that runs, in the hands of one test.
type lab struct {
	t       *testing.T
	bus     *bus.Bus
	looked  string             // when a guest was proven last, as `lab gaps` wants it
	killers map[string]*killer // by host
}

// Guests of the lab, and where they begin.
const (
	pvGuest  = "d1"
	pvhGuest = "h1"
)

// patience is for what an emulated host does on a loaded machine.
const patience = 15 * time.Minute

// open takes the lab in hand. Without it there is nothing to test.
func open(t *testing.T) *lab {
	t.Helper()
	url := os.Getenv("XMIG_LAB_BUS")
	if url == "" {
		t.Skip("NOT TESTED on real Xen: this runs in the lab of two emulated hosts, by `test/xenlab/lab suite`; .ci/run does so in a part of its own, with -short")
	}
	// The bus is on this machine: not there at once is not deployed.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Config{URL: url, Name: "lab suite", Log: zerolog.Nop()})
	if err != nil {
		t.Fatalf("%v; `lab guests` and `lab deploy` come before the suite", err)
	}
	t.Cleanup(b.Close)
	return &lab{t: t, bus: b, looked: "3h", killers: map[string]*killer{}}
}

func installation(t *testing.T) moves.Installation { return open(t) }

// command runs a command of this machine; what it printed, and how it ended.
func (l *lab) command(name string, args ...string) moves.Said {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	// A kept connection of ssh holds the pipes; the command's end is what counts.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, &errs)
	}
	return moves.Said{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}

// lab runs a command of the script, which must succeed.
func (l *lab) lab(args ...string) string {
	l.t.Helper()
	said := l.command("./lab", args...)
	if said.Code != 0 {
		l.t.Fatalf("lab %s: exit code %d: %s%s", strings.Join(args, " "), said.Code, said.Stdout, said.Stderr)
	}
	return said.Stdout
}

// on runs a shell line on a host, which must succeed.
func (l *lab) on(host, line string) string {
	l.t.Helper()
	return l.lab("ssh", host, line)
}

// alone pauses the two guests until the returned function is called, so that a
// third one has the hosts for itself: with three at work on one emulated
// processor the scripts of its disks are not done within libxl's 40 s, and its
// boot not in a quarter of an hour.
func (l *lab) alone() (again func()) {
	l.t.Helper()
	every := func(command string) {
		for _, host := range l.Hosts() {
			l.on(host, fmt.Sprintf("xl list | awk '$1 == %q || $1 == %q { print $1 }' | xargs -r -n 1 xl %s", pvGuest, pvhGuest, command))
		}
	}
	every("pause")
	return func() { every("unpause") }
}

// eventually looks until there is no error any more.
func (l *lab) eventually(look func() error) {
	l.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("not within %s: %v", patience, err)
		}
	}
}

func (l *lab) Bus() *bus.Bus           { return l.bus }
func (l *lab) Hosts() [2]string        { return [2]string{"xen1", "xen2"} }
func (l *lab) Patience() time.Duration { return patience }

func (l *lab) Xmig(args ...string) moves.Said {
	l.t.Helper()
	return l.command("./lab", append([]string{"xmig"}, args...)...)
}

// MoveArgs allows the blackout of an emulated host, whose xl takes half a
// minute to save and restore what a real one does in one second.
func (l *lab) MoveArgs(guest, to string, flags ...string) []string {
	return append([]string{"submit", guest, "--to", to, "--max-downtime", "10m"}, flags...)
}

// killer is a shell on a host that ends its worker at a word, and knows the
// host's time. A login takes longer than the shortest step does.
type killer struct {
	words   io.WriteCloser
	answers *bufio.Scanner
}

// killing is what that shell does. It must know the worker before the word comes.
const killing = `while read word; do
	case $word in
	look) worker=$(systemctl show -p MainPID --value xmig-node) && echo "$worker" ;;
	kill) kill -KILL "$worker" && echo "$worker" ;;
	time) date +%s%N ;;
	esac || echo failed
done`

// tell has the host's killer do something, and returns the number it answers.
func (l *lab) tell(host, word string) int64 {
	l.t.Helper()
	k := l.killers[host]
	if k == nil {
		k = l.killer(host)
		l.killers[host] = k
	}
	if _, err := fmt.Fprintln(k.words, word); err != nil {
		l.t.Fatalf("%s: tell it to %s: %v", host, word, err)
	}
	k.answers.Scan() // at the end of it there is no number
	n, err := strconv.ParseInt(k.answers.Text(), 10, 64)
	if err != nil || n == 0 {
		l.t.Fatalf("%s was told to %s: %q, %v", host, word, k.answers.Text(), errors.Join(err, k.answers.Err()))
	}
	return n
}

func (l *lab) killer(host string) *killer {
	l.t.Helper()
	cmd := exec.Command("./lab", "ssh", host, killing)
	words, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	answers, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		words.Close() // the shell ends with what it reads
		if err := cmd.Wait(); err != nil {
			l.t.Logf("the killer on %s: %v", host, err)
		}
	})
	return &killer{words, bufio.NewScanner(answers)}
}

// Kill ends the worker; systemd starts it again in a second, as on a real host.
func (l *lab) Kill(host string) { l.t.Helper(); l.tell(host, "kill") }

func (l *lab) Aim(host string) { l.t.Helper(); l.tell(host, "look") }

func (l *lab) Revive(host string) {
	l.t.Helper()
	l.eventually(func() error {
		if said := l.command("./lab", "ssh", host, "xmig node --health"); said.Code != 0 {
			return fmt.Errorf("the worker on %s: %s%s", host, said.Stdout, said.Stderr)
		}
		return nil
	})
}

func (l *lab) Now(host string) time.Time {
	l.t.Helper()
	return time.Unix(0, l.tell(host, "time"))
}

// awaitSeen waits until the bus knows the guest on exactly one host.
func (l *lab) awaitSeen(guest, at string) {
	l.t.Helper()
	l.eventually(func() error {
		ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
		defer cancel()
		hosts, err := l.bus.Hosts(ctx)
		var seen []string
		for _, h := range hosts {
			if vm, ok := h.Find(guest); ok {
				seen = append(seen, h.Node+" "+string(vm.State))
			}
		}
		if want := at + " " + string(jobs.VMRunning); err != nil || len(seen) != 1 || seen[0] != want {
			return fmt.Errorf("the bus knows %s as %q, want %q (%v)", guest, seen, want, err)
		}
		return nil
	})
}
