package xenlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// disksOf are the logical volumes of a guest.
func disksOf(guest string) []string {
	return []string{guest + "-root", guest + "-swap", guest + "-data"}
}

// Proven makes sure by both hosts and by the guest itself that it runs on one
// of them, whole, and that nothing half-made is left anywhere.
func (l *lab) Proven(guest, at, _ string) {
	l.t.Helper()
	l.eventually(func() error { return l.judge(guest, at) })
	l.well(guest)
	l.fsck(guest, at)
	l.t.Logf("since it was looked at last, the network saw:\n%s", l.lab("gaps", "-since", l.looked)) // fails if two copies beat
	l.looked = time.Now().UTC().Format(time.RFC3339Nano)
	l.awaitSeen(guest, at)
}

// judge gathers everything on the hosts that is not as it must be.
func (l *lab) judge(guest, at string) error {
	var errs []error
	for _, host := range l.Hosts() {
		want := 0
		if host == at {
			want = 1
		}
		seen := l.state(guest, host)
		for what, got := range map[string]int{
			"domains": len(seen.domains), "configs": seen.configs, "autostart links": seen.links, "active volumes": seen.active / len(disksOf(guest)),
		} {
			if got != want {
				errs = append(errs, fmt.Errorf("%s has %d %s of %s, want %d: %s", host, got, what, guest, want, seen.text))
			}
		}
		for _, d := range seen.domains {
			if f := strings.Fields(d); f[0] != guest || strings.ContainsAny(f[4][2:], "psc") {
				errs = append(errs, fmt.Errorf("%s: domain %q does not run as %s", host, d, guest))
			}
		}
		for _, left := range seen.left {
			errs = append(errs, fmt.Errorf("%s: left over: %s", host, left))
		}
	}
	return errors.Join(errs...)
}

// seen is what one host has of a guest.
type seen struct {
	text           string
	domains        []string // lines of xl list
	configs, links int
	active         int      // logical volumes under their own names and active
	left           []string // what no host should have between two jobs
}

// state asks a host by one line: a login costs time under emulation.
func (l *lab) state(guest, host string) seen {
	l.t.Helper()
	s := seen{text: l.on(host, strings.ReplaceAll(`
xl list | sed -n 's/^GUEST/domain GUEST/p'
for f in /etc/xen/GUEST.cfg; do [ -e $f ] && echo config $f; done
for f in /etc/xen/auto/GUEST.cfg; do [ -L $f ] && echo link $f; done
lvs --noheadings -o lv_name,lv_attr vg0 | sed -n 's/^ *\(GUEST-[a-z]*\) \+.\{4\}a.*/active \1/p'
find /etc/xen /etc/xen/auto -maxdepth 1 -name '.*' -type f | sed 's/^/left /'
ls /var/lib/xmig/arrivals /var/lib/xmig/staged 2>/dev/null | sed -n 's/^\([^/:]\+\)$/left session \1/p'
pgrep -a -f '(^| )xmig (hold|xl-stub) ' | sed 's/^/left process /'
lvs --noheadings -o lv_name,lv_tags vg0 | sed -n 's/^ *\(GUEST-.*role[=.]made.*\)/left volume \1/p'
true`, "GUEST", guest))}
	for _, line := range strings.Split(s.text, "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "domain":
			s.domains = append(s.domains, rest)
		case "config":
			s.configs++
		case "link":
			s.links++
		case "active":
			s.active++
		case "left":
			s.left = append(s.left, rest)
		}
	}
	return s
}

// well waits until the guest answers and all that it remembers is right: a
// guest that was booted has to come up first.
func (l *lab) well(guest string) {
	l.t.Helper()
	l.eventually(func() error {
		said := l.command("./lab", "ask", guest, "verify")
		if said.Code != 0 && !strings.Contains(said.Stdout, `"Bad"`) {
			return fmt.Errorf("%s does not answer: %s%s", guest, said.Stdout, said.Stderr)
		}
		if said.Code != 0 || !strings.Contains(said.Stdout, `"Bad":null`) {
			l.t.Fatalf("%s is damaged: %s%s", guest, said.Stdout, said.Stderr)
		}
		return nil
	})
}

// snapshot keeps, on a host, what must be on the guest's data disk from now on.
func (l *lab) snapshot(guest, host, file string) {
	l.t.Helper()
	text := l.lab("ask", guest, "snapshot")
	if !json.Valid([]byte(text)) {
		l.t.Fatalf("snapshot of %s: %s", guest, text)
	}
	l.on(host, fmt.Sprintf("cat >%s <<'EOF'\n%s\nEOF", file, text))
}

// kept makes sure that nothing of an earlier snapshot is lost from the data
// disk of a guest. It is read past the page cache, with the guest held: what it
// writes meanwhile would be half there.
func (l *lab) kept(guest, host, file string) {
	l.t.Helper()
	l.on(host, fmt.Sprintf("xl pause %[1]s && lab-guest disks %[2]s xvdc=/dev/vg0/%[1]s-data; code=$?; xl unpause %[1]s; exit $code", guest, file))
}

// fsck makes sure that the root file system is whole: on a copy as a crash at
// this moment would leave it, the journal is replayed, and then nothing is amiss.
func (l *lab) fsck(guest, host string) {
	l.t.Helper()
	l.on(host, fmt.Sprintf(`set -e
lvcreate -q -y -s -L 24M -n %[1]s-fsck vg0/%[1]s-root >/dev/null
trap 'lvremove -q -y vg0/%[1]s-fsck >/dev/null' EXIT
e2fsck -p /dev/vg0/%[1]s-fsck >/tmp/fsck.log 2>&1 || [ $? -eq 1 ] || { cat /tmp/fsck.log; exit 1; }
e2fsck -fn /dev/vg0/%[1]s-fsck >/tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; exit 1; }`, guest))
}

// Still is what domains, configs, volumes and sessions both hosts have.
func (l *lab) Still() string {
	l.t.Helper()
	var b strings.Builder
	for _, host := range l.Hosts() {
		b.WriteString(host + "\n")
		b.WriteString(l.on(host, `xl list | awk 'NR > 1 { print $1, $2 }'
ls -lA /etc/xen /etc/xen/auto | grep -v ^total
lvs --noheadings -o vg_name,lv_name,lv_size,lv_attr,lv_tags | tr -s ' '
ls -A /var/lib/xmig/arrivals /var/lib/xmig/staged 2>/dev/null; true`))
	}
	return b.String()
}
