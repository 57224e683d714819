package xen

import "strings"

// Ending is how a guest ended by itself.
type Ending string

// The endings that a domain's state tells apart.
const (
	Poweroff  Ending = "poweroff"
	Reboot    Ending = "reboot"
	Crash     Ending = "crash"
	Watchdog  Ending = "watchdog"
	SoftReset Ending = "soft_reset"
)

// Ending tells how the guest of a domain that is still there has ended; one that
// is suspended has not.
func (s State) Ending() (Ending, bool) {
	if !s.shutDown() {
		return "", false
	}
	e, ok := map[byte]Ending{'-': Poweroff, 'r': Reboot, 'c': Crash, 'w': Watchdog, 'S': SoftReset}[s.at(4)]
	return e, ok
}

// What is done with a domain whose guest has ended.
const (
	ActionDestroy  = "destroy"
	ActionRestart  = "restart"
	ActionPreserve = "preserve"
)

// Endings are what a domain's config wants, in xl's words.
type Endings map[Ending]string

// For is the action of an ending, of the three that there are here: a core dump
// is not taken, a rename is not made, and what remains of their actions is done.
func (e Endings) For(ending Ending) string {
	switch action := e[ending]; {
	case strings.HasSuffix(action, ActionRestart):
		return ActionRestart
	case action == ActionPreserve:
		return ActionPreserve
	case ending == SoftReset: // in place it would be, which takes libxl itself
		return ActionRestart
	}
	return ActionDestroy
}
