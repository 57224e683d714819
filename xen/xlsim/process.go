package xlsim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process names a process so that a reused pid is not taken for it.
type process struct {
	PID     int    `json:",omitempty"`
	Started uint64 `json:",omitempty"` // clock ticks after boot, field 22 of /proc/PID/stat
}

func thisProcess() process {
	started, _ := startTime(os.Getpid())
	return process{PID: os.Getpid(), Started: started}
}

// alive: the process is there and no zombie.
func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	started, err := startTime(p.PID)
	return err == nil && started == p.Started
}

// kill ends the process at once, if it still is the one that was meant.
func (p process) kill() error {
	if !p.alive() || p.PID == os.Getpid() {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %d: %w", p.PID, err)
	}
	return nil
}

// endWait bounds the time a killed process may take to be gone: its writes
// under way must not reach a disk that was given to somebody else.
const endWait = 30 * time.Second

// end kills the process and waits until it is gone.
func (p process) end() error {
	if err := p.kill(); err != nil {
		return err
	}
	for deadline := time.Now().Add(endWait); p.alive() && p.PID != os.Getpid(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d was killed and does not end", p.PID)
		}
	}
	return nil
}

// startTime reads when a process began; an error for one that is gone or only
// waits to be reaped.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The command name, field 2, may hold blanks and brackets.
	end := strings.LastIndexByte(string(data), ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: unknown format", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
