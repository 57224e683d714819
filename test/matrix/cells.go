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
	sourceXL          target = "source xl"
	destinationWorker target = "destination worker"
	destinationStub   target = "destination stub"
	destinationXL     target = "destination xl"
	controlBus        target = "control bus"
	lane              target = "lane"
	sourceLink        target = "source link"
	destinationLink   target = "destination link"
	sourceHost        target = "source host"
	destinationHost   target = "destination host"
)

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
	freeze manner = "freeze" // SIGSTOP for longer than any lease
	cut    manner = "cut"    // reset, and refused from then on
	mute   manner = "mute"   // nothing arrives and nobody is told
	full   manner = "full"   // no room on the worker's disk
)

// cell is one strike.
type cell struct {
	step   jobs.StepName
	target target
	moment moment
	manner manner
}

func (c cell) String() string {
	return fmt.Sprintf("%s/%s/%s/%s", c.step, c.target, c.moment, c.manner)
}

// cells lists all of them, possible or not.
func cells() (all []cell) {
	for _, step := range jobs.Steps() {
		for _, t := range []target{sourceWorker, sourceStub, sourceXL, destinationWorker, destinationStub, destinationXL,
			controlBus, lane, sourceLink, destinationLink, sourceHost, destinationHost} {
			for _, m := range []moment{before, within, after} {
				for _, how := range []manner{kill, freeze, cut, mute, full} {
					all = append(all, cell{step, t, m, how})
				}
			}
		}
	}
	return all
}

// commands are the toolstack's commands that change something in a step of a
// suspend move; what only asks is asked again.
var commands = map[target]map[jobs.StepName]string{
	sourceXL:      {jobs.Stream: "save", jobs.Settle: "destroy"},
	destinationXL: {jobs.Stream: "restore", jobs.Resume: "unpause"},
}

// impossible says why a cell cannot be; "" if it can.
func (c cell) impossible() string {
	processes := []target{sourceWorker, destinationWorker, controlBus, sourceXL, destinationXL}
	links := []target{lane, sourceLink, destinationLink}
	hosts := []target{sourceHost, destinationHost}
	switch is := func(all []target) bool { return slices.Contains(all, c.target) }; {
	case c.target == sourceStub, c.target == destinationStub:
		return "a suspend move has no stub: xl's pipes are the worker's"
	case c.step == jobs.HandOver && c.moment == before:
		return "it is seal's after: nothing is between them"
	case c.step == jobs.Check && c.moment == before:
		return "the job is not handed to its source yet"
	case c.step == jobs.Settle && c.moment == after:
		return "the job is over"
	case is(links) && c.manner != cut && c.manner != mute:
		return "a link is cut or silent; it does not die"
	case is(processes) && (c.manner == cut || c.manner == mute):
		return "a process is killed or frozen; its links are cells of their own"
	case is(hosts) && c.manner != kill:
		return "a host that hangs or loses its link looks as its worker does"
	case c.manner == full && c.target != sourceWorker && c.target != destinationWorker:
		return "only workers keep promises on a disk; a bus whose disk is full does not answer, as one that is frozen"
	case (c.target == sourceXL || c.target == destinationXL) && c.moment != within:
		return "no command is at work between steps"
	case (c.target == sourceXL || c.target == destinationXL) && commands[c.target][c.step] == "":
		return "no command that changes something is at work there in this step"
	case c.target == lane && slices.Index(jobs.Steps(), c.step) < slices.Index(jobs.Steps(), jobs.Prepare):
		return "no lane is open yet"
	case c.target == lane && c.step == jobs.Prepare && c.moment == before:
		return "no lane is open yet"
	}
	return ""
}

// crucial are the steps around the line: all their cells are in CI.
func (c cell) crucial() bool {
	return c.step == jobs.SealStep || c.step == jobs.HandOver || c.step == jobs.Resume
}
