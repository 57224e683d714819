package xen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scripted is an xl that is a shell script; $1 is the command.
func scripted(script string) XL { return XL{Command: []string{"/bin/sh", "-c", script, "xl"}} }

// replays is an xl that says what a recording of a failure says, and exits so;
// a list shows dom0 alone, or with it a domain 1.
func replays(t *testing.T, file string, list string) XL {
	t.Helper()
	_, text, _ := strings.Cut(recording(t, file), "\n")
	at := strings.LastIndex(text, "exit=")
	dir := t.TempDir()
	for name, content := range map[string]string{"said": text[:at], "list": recording(t, "xl-list-v.txt")} {
		if name == "list" && list == "" {
			content = listHeader
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return scripted(fmt.Sprintf("if [ $1 = list ]; then cat %[1]s/list; else cat %[1]s/said >&2; exit %[2]s; fi", dir, strings.TrimSpace(text[at+5:])))
}

// TestFailuresOfXL: what a real xl says becomes an error that says it too.
func TestFailuresOfXL(t *testing.T) {
	ctx := t.Context()
	none, one := "", "d1 is there"
	cfg := filepath.Join(t.TempDir(), "d1.cfg")
	if err := os.WriteFile(cfg, []byte("name = 'd1'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	create := func(x XL) error { _, err := x.Create(ctx, cfg, Paused); return err }
	tests := []struct {
		file, list string
		do         func(XL) error
		is         error
		exit       int
		text       string // the end of the error
	}{
		{"err-domain-not-found-pause.txt", one, func(x XL) error { return x.Pause(ctx, 1) }, ErrNoDomain, 1,
			"pause 1: exit code 1: nosuch is an invalid domain identifier (rc=-6)"},
		{"err-domain-not-found-save.txt", one, func(x XL) error { return x.Save(ctx, 1, os.Stderr) }, ErrNoDomain, 1,
			"save -p 1 /dev/stdout: exit code 1: nosuch is an invalid domain identifier (rc=-6)"},
		{"err-unpause-notpaused.txt", one, func(x XL) error { return x.Unpause(ctx, 1) }, ErrNotPaused, 0,
			"the domain is not paused: xl unpause 1: exit code 0: libxl: error: libxl_domain.c:688:domain_unpause_done: Domain 1:Unpausing domain: Invalid argument"},
		{"err-unpause-notpaused.txt", none, func(x XL) error { return x.Unpause(ctx, 1) }, ErrNoDomain, 0,
			"domain 1: there is no such domain: xl unpause 1: exit code 0: libxl: error: libxl_domain.c:688:domain_unpause_done: Domain 1:Unpausing domain: Invalid argument"},
		{"err-name-in-use.txt", one, create, ErrNameTaken, 3, `Domain 2:Domain with name "d1" already exists.; ` +
			"libxl: error: libxl_create.c:1296:initiate_domain_create: Domain 2:cannot make domain: -6; " +
			"libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 2:Non-existant domain; " +
			"libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 2:Unable to destroy guest; " +
			"libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 2:Destruction of domain failed"},
		{"err-restore-name-in-use.txt", one, create, ErrNameTaken, 1, "Destruction of domain failed"},
		{"err-not-enough-memory.txt", none, create, nil, 3, "Destruction of domain failed"},
		{"err-missing-disk.txt", none, create, nil, 3, "Destruction of domain failed"},
		{"err-disk-in-use.txt", none, create, nil, 3, "Destruction of domain failed"},
		{"err-create-nofile.txt", none, create, nil, 3, "Failed to read config file: /root/none.cfg: No such file or directory"},
		{"err-restore-garbage.txt", none, create, nil, 1, "exit code 1: File has wrong magic number - corrupt or for a different tool?"},
		{"err-save-disk-full.txt", one, func(x XL) error { return x.Save(ctx, 1, os.Stderr) }, nil, 1, "/dev/stdout: exit code 1: " +
			"xc: error: Failed to write page data to stream (28 = No space left on device): Internal error; " +
			"xc: error: Save failed (28 = No space left on device): Internal error; " +
			"libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain 12:saving domain: domain responded to suspend request: No space left on device; " +
			"Failed to save domain, resuming domain"},
	}
	for _, tt := range tests {
		x := replays(t, tt.file, tt.list)
		script := commandLine(x.Command)
		err := tt.do(x)
		if err == nil {
			t.Errorf("%s: no error", tt.file)
			continue
		}
		text := strings.ReplaceAll(err.Error(), script, "xl")
		var failed *CommandError
		if !errors.As(err, &failed) || failed.Exit != tt.exit || !strings.HasSuffix(text, tt.text) {
			t.Errorf("%s: exit %+v\n got %s\nwant %s", tt.file, failed, text, tt.text)
		}
		for _, known := range []error{ErrNoDomain, ErrNameTaken, ErrNotPaused} {
			if got := errors.Is(err, known); got != (known == tt.is) {
				t.Errorf("%s: is %q: %v", tt.file, known, got)
			}
		}
	}
}

// TestMuteCommands: pause, unpause and resume exit with 0 whatever happened;
// what they complain about is all there is.
func TestMuteCommands(t *testing.T) {
	const gone = "libxl: error: libxl_domain.c:%d:x: Domain 1:%s domain: No such process"
	list := "if [ $1 = list ]; then printf '" + strings.ReplaceAll(listHeader, "\n", `\n`) + "'; exit; fi; "
	for what, do := range map[string]func(XL) error{
		"Pausing":   func(x XL) error { return x.Pause(t.Context(), 1) },
		"Unpausing": func(x XL) error { return x.Unpause(t.Context(), 1) },
	} {
		if err := do(scripted(list + "echo '" + fmt.Sprintf(gone, 1, what) + "' >&2")); !errors.Is(err, ErrNoDomain) {
			t.Errorf("%s one that is not there: %v", what, err)
		}
		if err := do(scripted(list + "echo 'Parsing config file /etc/xen/xl.conf' >&2")); err != nil {
			t.Errorf("%s with a word about something else: %v", what, err)
		}
	}
}

func TestUnknownDomainInAQuestion(t *testing.T) {
	x := replays(t, "err-domain-not-found.txt", "")
	if _, err := (XL{Command: append(slices.Clone(x.Command), "x")}).Config(t.Context(), 9); !errors.Is(err, ErrNoDomain) {
		t.Errorf("got %v, want ErrNoDomain", err)
	}
	x = scripted(`echo "Error: Domain '9' does not exist." >&2; exit 1`)
	if _, err := x.Config(t.Context(), 9); !errors.Is(err, ErrNoDomain) {
		t.Errorf("got %v, want ErrNoDomain", err)
	}
}

func TestCommandError(t *testing.T) {
	tests := []struct {
		err  CommandError
		want string
	}{
		{CommandError{Command: []string{"xl", "rename", "--", "3", "web one"}, Exit: 1}, `xl rename -- 3 "web one": exit code 1`},
		{CommandError{Command: []string{"xl", "save"}, Exit: -1, Signal: syscall.SIGKILL}, "xl save: killed by signal 9 (killed)"},
		{CommandError{Command: []string{"xl", "x", ""}, Exit: 2, Stderr: "\n \na\nb\n"}, `xl x "": exit code 2: a; b`},
		{CommandError{Command: []string{"xl"}, Exit: 1, Stderr: "1\n2\n3\n4\n5\n6\n7\n8\n9\n"}, "xl: exit code 1: 2; 3; 4; 5; 6; 7; 8; 9"},
		{CommandError{Command: []string{"xl"}, Exit: 1, Stderr: "Saving to x\nxc: progress: Frames: 1/2 50%\nreason\n"}, "xl: exit code 1: reason"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %s\nwant %s", got, tt.want)
		}
	}
}

func TestHowACommandEnded(t *testing.T) {
	tests := []struct {
		script string
		exit   int
		signal syscall.Signal
	}{
		{"exit 3", 3, 0},
		{"exit 255", 255, 0}, // xl's exit(-1)
		{"kill -9 $$", -1, syscall.SIGKILL},
		{"exit 137", -1, syscall.SIGKILL}, // a shell's or the holder's way to say it
	}
	for _, tt := range tests {
		var failed *CommandError
		err := scripted(tt.script).act(t.Context(), effect{args: []string{"save"}})
		if !errors.As(err, &failed) || failed.Exit != tt.exit || failed.Signal != tt.signal {
			t.Errorf("%s: got %+v (%v)", tt.script, failed, err)
		}
	}
	err := XL{Command: []string{"/nowhere/xl"}}.Destroy(t.Context(), 1)
	if err == nil || err.Error() != "/nowhere/xl destroy 1: fork/exec /nowhere/xl: no such file or directory" {
		t.Errorf("no such program: %v", err)
	}
}

// fifo makes a named pipe that a script can wait at.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// meet waits until somebody opened the fifo to read, and lets him go on.
func meet(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestQuestionEndsWithItsContext: and says why.
func TestQuestionEndsWithItsContext(t *testing.T) {
	why := errors.New("asked too long")
	ctx, cancel := context.WithCancelCause(t.Context())
	stuck := fifo(t)
	got := make(chan error, 1)
	go func() {
		_, err := scripted("read x < " + stuck).List(ctx)
		got <- err
	}()
	f := meet(t, stuck)
	defer f.Close()
	cancel(why)
	if err := <-got; !errors.Is(err, why) || !strings.HasSuffix(err.Error(), "list -v: asked too long") {
		t.Errorf("got %v", err)
	}
	if _, err := scripted("echo done").Info(ctx); !errors.Is(err, why) {
		t.Errorf("a question after the end of its context: %v", err)
	}
}

// TestEffectGoesOn: a context that ends does not end what was begun, and keeps
// what was not from beginning.
func TestEffectGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	wait, mark := fifo(t), filepath.Join(t.TempDir(), "mark")
	x := scripted(fmt.Sprintf("read x < %s; echo $x > %s", wait, mark))
	got := make(chan error, 1)
	go func() { got <- x.Destroy(ctx, 1) }()
	f := meet(t, wait)
	cancel()
	select {
	case err := <-got:
		t.Fatalf("returned before the command had ended: %v", err)
	case <-time.After(50 * time.Millisecond): // a wrong return has its chance; a right one needs none
	}
	fmt.Fprintln(f, "carried out")
	f.Close()
	if err := <-got; err != nil {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(mark); string(text) != "carried out\n" {
		t.Errorf("the command was cut off: %q, %v", text, err)
	}
	os.Remove(mark)
	if err := scripted("echo > "+mark).Destroy(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("begun although its context was over: %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it was carried out although its context was over")
	}
}

// TestDaemonsKeepNobodyWaiting: xl create leaves a daemon that may keep stdout
// and stderr open for as long as its domain lives.
func TestDaemonsKeepNobodyWaiting(t *testing.T) {
	pidfile := filepath.Join(t.TempDir(), "pid")
	// The daemon itself ends the test's patience: it is killed below.
	x := scripted(fmt.Sprintf("echo said >&2; sleep 1000 & echo $! > %s", pidfile))
	err := x.act(t.Context(), effect{args: []string{"create"}})
	text, rerr := os.ReadFile(pidfile)
	pid, perr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := errors.Join(err, rerr, perr); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the daemon was gone before: %v", err)
	}
}

// TestShutdownWait waits for the guest, not for xl.
func TestShutdownWait(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	show := func(text string) {
		t.Helper()
		if err := os.WriteFile(state+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(state+".new", state); err != nil {
			t.Fatal(err)
		}
	}
	domain := func(s State) string {
		return listHeader + printRow(Domain{ID: 1, Name: "d1", UUID: uuidD1, State: s}, "-", "-")
	}
	x := scripted(fmt.Sprintf(`if [ $1 = list ]; then cat %s; else echo "$@" > %s/asked; fi`, state, dir))
	patient, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, tt := range []struct{ name, end string }{
		{"gone", listHeader}, {"shut down and kept", domain("---s--")}, {"rebooted: another domain", strings.Replace(domain("r-----"), "    1 ", "    2 ", 1)},
	} {
		show(domain("-b----"))
		got := make(chan error, 1)
		go func() { got <- x.Shutdown(patient, 1, Wait) }()
		select {
		case err := <-got:
			t.Fatalf("%s: returned while the guest ran: %v", tt.name, err)
		case <-time.After(20 * time.Millisecond):
		}
		show(tt.end)
		if err := <-got; err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if asked, err := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "shutdown -F 1\n" {
		t.Errorf("asked %q, %v", asked, err)
	}
	show(domain("-b----"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := x.Shutdown(ctx, 1, Wait); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a guest that does not answer: %v", err)
	}
	if err := x.Shutdown(t.Context(), 1, Ask); err != nil {
		t.Errorf("only asked: %v", err)
	}
}

// TestResumeByVersion: xl has a command for it since 4.20, and a roundabout way
// before; what counts is the state afterwards.
func TestResumeByVersion(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	domain := func(s State) string {
		return listHeader + printRow(Domain{ID: 3, Name: "h1", UUID: uuidD1, State: s}, "-", "-")
	}
	info := recording(t, "xl-info.txt")
	tests := []struct {
		name, minor   string
		before, after State
		exit          string
		want          string // the commands
		fails         bool
	}{
		{"4.17", "17", "---ss-", "-b----", "0", "save -c 3 /dev/null\n", false},
		{"4.20", "20", "---ss-", "-b----", "0", "resume 3\n", false},
		{"4.17, a failure that resumed", "17", "---ss-", "r-----", "1", "save -c 3 /dev/null\n", false},
		{"it stays suspended", "20", "---ss-", "---ss-", "0", "resume 3\n", true},
		{"it had been paused too", "17", "--pss-", "--p---", "0", "save -c 3 /dev/null\nunpause 3\n", false},
		{"it runs already", "17", "-b----", "-b----", "0", "", true},
		{"it is paused", "17", "--p---", "--p---", "0", "", true},
	}
	for _, tt := range tests {
		file("info", strings.Replace(info, "xen_minor              : 17", "xen_minor              : "+tt.minor, 1))
		file("list", domain(tt.before))
		file("after", domain(tt.after))
		file("done", "")
		x := scripted(fmt.Sprintf(`cd %s; case $1 in list|info) cat $1;; *) echo "$@" >> done; cp after list; exit %s;; esac`, dir, tt.exit))
		err := x.ResumeSuspended(t.Context(), 3)
		done, rerr := os.ReadFile(filepath.Join(dir, "done"))
		if rerr != nil || string(done) != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %v; did %q, want %q", tt.name, err, done, tt.want)
		}
	}
}

// TestRestoreOfASilentStream: when xl fails Restore is over, although whoever
// writes the image has not ended and says nothing.
func TestRestoreOfASilentStream(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	head := image(`{"c_info": {"name": "d1"}}`+"\x00", 3, "pages")
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := scripted("echo no memory >&2; exit 1").Restore(t.Context(), r)
		got <- err
	}()
	select {
	case err := <-got:
		if err == nil || !strings.HasSuffix(err.Error(), "restore -p /dev/stdin: exit code 1: no memory") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Restore waits for a stream that xl does not read")
	}
}
