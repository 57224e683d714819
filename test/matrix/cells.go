package matrix

import (
	"fmt"
	"slices"

	"xmig/jobs"
)

// target is what is struck.
type target string

const (
	sourceWorker      target = "source worker"
	sourceStub        target = "source stub"
	sourceXL          target = "source xl" // of a live move: `xl migrate`
	destinationWorker target = "destination worker"
	destinationStub   target = "destination stub" // the holder that hears migrate-receive
	destinationXL     target = "destination xl"   // of a live move: `xl migrate-receive`
	controlBus        target = "control bus"
	lane              target = "lane"
	sourceLink        target = "source link"
	destinationLink   target = "destination link"
	sourceHost        target = "source host"
	destinationHost   target = "destination host"
)

func targets() []target {
	return []target{sourceWorker, sourceStub, sourceXL, destinationWorker, destinationStub, destinationXL,
		controlBus, lane, sourceLink, destinationLink, sourceHost, destinationHost}
}

// moment is when it is struck.
type moment string

const (
	before moment = "before" // the step before it has just ended
	within moment = "within"
	after  moment = "after" // it has just ended
)

// manner is how it is struck.
type manner string

const (
	kill   manner = "kill"   // SIGKILL, power for a host
	freeze manner = "freeze" // SIGSTOP for longer than any lease; of a host its guests too
	cut    manner = "cut"    // reset, and refused from then on
	mute   manner = "mute"   // nothing arrives and nobody is told
	full   manner = "full"   // no room on the worker's disk
)

func manners() []manner { return []manner{kill, freeze, cut, mute, full} }

// cell is one strike.
type cell struct {
	mode   jobs.Mode
	step   jobs.StepName
	target target
	moment moment
	manner manner
}

func (c cell) String() string {
	return fmt.Sprintf("%s/%s/%s/%s/%s", c.mode, c.step, c.target, c.moment, c.manner)
}

// cells lists all of the modes' cells, possible or not.
func cells(modes ...jobs.Mode) (all []cell) {
	for _, mode := range modes {
		for _, step := range jobs.Steps() {
			for _, t := range targets() {
				for _, m := range []moment{before, within, after} {
					for _, how := range manners() {
						all = append(all, cell{mode, step, t, m, how})
					}
				}
			}
		}
	}
	return all
}

// matrix is the cells of the whole run. A cold move has none of its own: it is
// a suspend move without memory. Random runs have some.
func matrix() []cell { return cells(jobs.Suspend, jobs.Live) }

// possible are those of them that can be struck.
func possible(all []cell) []cell {
	return slices.DeleteFunc(slices.Clone(all), func(c cell) bool { return c.impossible() != "" })
}

// process is how a process of a move is found by its command line.
type process struct {
	begin, has string
}

// command is a toolstack command that changes something; what only asks is asked again.
func command(word string) process { return process{"xlsim ", " xl " + word} }

// commands are those of a suspend or cold move, each at work in one step.
func commands(mode jobs.Mode, t target, s jobs.StepName) (p process, there bool) {
	word := ""
	switch {
	case t == sourceXL && s == jobs.Stream:
		word = map[jobs.Mode]string{jobs.Suspend: "save", jobs.Cold: "shutdown"}[mode]
	case t == sourceXL && s == jobs.Settle:
		word = "destroy"
	case t == destinationXL && s == jobs.Stream && mode == jobs.Suspend:
		word = "restore"
	case t == destinationXL && s == jobs.SealStep && mode == jobs.Cold:
		word = "create"
	case t == destinationXL && s == jobs.Resume:
		word = "unpause"
	}
	return command(word), word != ""
}

// lives are the processes of a live move, which live over several steps: from
// within stream until within the last step.
var lives = map[target]struct {
	process
	last jobs.StepName
}{
	sourceStub:      {process{"xl-stub ", ""}, jobs.Settle},
	sourceXL:        {command("migrate "), jobs.Settle},
	destinationStub: {process{"hold ", " xl migrate-receive"}, jobs.SealStep},
	destinationXL:   {command("migrate-receive"), jobs.SealStep},
}

// process is what of the toolstack is struck in a cell; there: such a process is at work then.
func (c cell) process() (p process, there bool) {
	if c.mode != jobs.Live || c.target == destinationXL && c.step == jobs.Resume {
		p, there = commands(c.mode, c.target, c.step)
		return p, there && c.moment == within
	}
	life := lives[c.target]
	steps := jobs.Steps()
	at, first, last := slices.Index(steps, c.step), slices.Index(steps, jobs.Stream), slices.Index(steps, life.last)
	there = at > first && at < last || at == first && c.moment != before || at == last && c.moment != after
	return life.process, there
}

// kinds of targets, by what can be done to them.
func (t target) isLink() bool { return t == lane || t == sourceLink || t == destinationLink }
func (t target) isHost() bool { return t == sourceHost || t == destinationHost }
func (t target) isStub() bool { return t == sourceStub || t == destinationStub }
func (t target) isTool() bool { return t.isStub() || t == sourceXL || t == destinationXL }

// impossible says why a cell cannot be; "" if it can.
func (c cell) impossible() string {
	if c.target.isStub() && c.mode != jobs.Live {
		return fmt.Sprintf("a %s move has no stub: xl's pipes are the worker's", c.mode)
	}
	for _, why := range []string{c.noSuchMoment(), c.noSuchManner(), c.nothingThere()} {
		if why != "" {
			return why
		}
	}
	return ""
}

func (c cell) noSuchMoment() string {
	switch {
	case c.step == jobs.HandOver && c.moment == before:
		return "it is seal's after: nothing is between them"
	case c.step == jobs.Check && c.moment == before:
		return "the job is not handed to its source yet"
	case c.step == jobs.Settle && c.moment == after:
		return "the job is over"
	}
	return ""
}

func (c cell) noSuchManner() string {
	switch t := c.target; {
	case t.isLink() && c.manner != cut && c.manner != mute:
		return "a link is cut or silent; it does not die"
	case !t.isLink() && !t.isHost() && (c.manner == cut || c.manner == mute):
		return "a process is killed or frozen; its links are cells of their own, and a pipe ends with its process"
	case c.manner != full || t == sourceWorker || t == destinationWorker:
		return ""
	case t == controlBus:
		return "a bus whose disk is full does not answer, as one that is frozen"
	case t.isHost(), t == sourceStub:
		return "its promises lie on its worker's disk, which is a cell of its own"
	default:
		return "it writes nothing to a disk of its own"
	}
}

func (c cell) nothingThere() string {
	steps := jobs.Steps()
	at, prepare := slices.Index(steps, c.step), slices.Index(steps, jobs.Prepare)
	if c.target == lane && (at < prepare || at == prepare && c.moment == before) {
		return "no lane is open yet"
	}
	if !c.target.isTool() {
		return ""
	}
	if _, there := c.process(); there {
		return ""
	}
	_, ever := commands(c.mode, c.target, c.step)
	switch stream := slices.Index(steps, jobs.Stream); {
	case ever:
		return "no command is at work between steps"
	case c.mode != jobs.Live:
		return "no command that changes something is at work there in this step"
	case at <= stream:
		return "no xl migrates yet"
	case c.target == sourceStub || c.target == sourceXL:
		return "it ended with the source's copy, in settle"
	default:
		return "migrate-receive has made its copy and ended, before READY"
	}
}

// crucial are the steps around the line: all their cells are in CI.
func (c cell) crucial() bool {
	return c.step == jobs.SealStep || c.step == jobs.HandOver || c.step == jobs.Resume
}
