package moves

import (
	"testing"
	"time"

	"xmig/bus"
)

// Installation is two hosts with their workers, a server, and guests at work.
// Its methods end the test on any failure.
type Installation interface {
	// Bus is the installation's, as the command line reaches it.
	Bus() *bus.Bus
	// Xmig runs the command line.
	Xmig(args ...string) Said
	// Hosts are the two; every guest begins on the first.
	Hosts() [2]string
	// MoveArgs is the command line that moves a guest to a host, and waits.
	MoveArgs(guest, to string, flags ...string) []string
	// Aim looks for the worker that runs on a host, so that a Kill takes no time.
	Aim(host string)
	// Kill ends a host's worker by SIGKILL: the one that was aimed at.
	Kill(host string)
	// Revive starts it again, or waits until somebody else has.
	Revive(host string)
	// Now is the time by the host's clock.
	Now(host string) time.Time
	// Still is what a guest and its disks are made of, so that a refusal can be
	// seen to have changed nothing on any host.
	Still() string
	// Proven makes sure that the guest runs on host at and nowhere else, whole,
	// and that nothing half-made is left.
	Proven(guest, at, job string)
	// Obstacles are what stands against moving the guest to a host.
	Obstacles(guest, to string) []Obstacle
	// Patience is how long anything may take to come about.
	Patience() time.Duration
}

// Open gives an installation at rest to one test.
type Open func(t *testing.T) Installation

// Said is what a command line said.
type Said struct {
	Code           int
	Stdout, Stderr string
}

// Obstacle is one thing that a check must name.
type Obstacle struct {
	Name  string
	Place func()   // puts it in the way
	Clear func()   // takes it away again
	Move  []string // more flags of the move that meets it
	Named []string // what the refusal must say, all of it
}
