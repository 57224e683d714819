package xenlab

import (
	"fmt"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/test/moves"
)

// TestControl is the negative control of every other test: a live move whose
// disk misses the last passes, as if they had been skipped, must not pass for a
// good one. The destination's data disk is kept as it is when memory begins to
// flow, and put back behind everybody's back while both copies are held.
func TestControl(t *testing.T) {
	brief(t, "the negative control: a live move that lost the last delta is found out")
	l := open(t)
	defer l.alone()()
	defer l.lab("spare-gone") // not as a clean-up, when the lab's commands are ended already
	l.spare()
	control := &control{lab: l}
	strike := l.trapped(spareGuest, control.spoil)
	strike.Mode = jobs.Live
	trap := strike.Before
	strike.Before = func(hosts [2]string) {
		trap(hosts)
		control.keep(hosts[1])
	}
	moves.Held(t, func(*testing.T) moves.Installation { return control }, spareGuest, strike)
}

// control is the lab with a guest whose disk is spoiled on the way: then that it
// is damaged has to be proven, not that it is well.
type control struct {
	*lab
	to      string // the move's destination
	spoiled bool
}

// keptDisk is where the destination keeps the older content.
const keptDisk = "/var/tmp/c1-data.before"

// keep has the destination copy the disk as soon as it receives memory.
func (c *control) keep(to string) {
	c.t.Helper()
	c.to = to
	c.on(to, fmt.Sprintf(`rm -f %[1]s
nohup sh -c 'until pgrep -f "[m]igrate-receive" >/dev/null; do sleep 0.2; done
dd if=/dev/vg0/c1-data of=%[1]s.new bs=1M iflag=direct status=none && mv %[1]s.new %[1]s' >/dev/null 2>&1 </dev/null &`, keptDisk))
}

// spoil puts it back. Both copies are held.
func (c *control) spoil(string) {
	c.t.Helper()
	c.on(c.to, fmt.Sprintf(`if dd if=/dev/vg0/c1-data bs=1M iflag=direct status=none | cmp -s - %[1]s; then
	echo 'no pass changed the disk while memory flowed: nothing to lose'
	exit 1
fi
dd if=%[1]s of=/dev/vg0/c1-data bs=1M oflag=direct conv=notrunc,fsync status=none`, keptDisk))
	c.spoiled = true
}

// Proven wants the guest to name its damage, once it is spoiled.
func (c *control) Proven(guest, at, job string) {
	c.t.Helper()
	if !c.spoiled {
		c.lab.Proven(guest, at, job)
		return
	}
	c.eventually(func() error {
		said := c.command("./lab", "ask", guest, "verify")
		switch {
		case !strings.Contains(said.Stdout, `"Bad"`):
			return fmt.Errorf("%s does not answer: %s%s", guest, said.Stdout, said.Stderr)
		case said.Code == 0 || strings.Contains(said.Stdout, `"Bad":null`):
			c.t.Fatalf("%s on %s misses the last passes of its data disk, and nobody noticed: %s", guest, at, said.Stdout)
		}
		c.t.Logf("caught: exit code %d, %.600s", said.Code, said.Stdout)
		return nil
	})
}
