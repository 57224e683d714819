package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// binary is the xmig that is tested and toolstack what its hosts have for xl,
// built once per test run. They lie in a directory of this run alone, so that
// every process that runs one of them is ours.
var binary, toolstack string

// janitorOf makes a test binary the janitor of the named directory.
const janitorOf = "XMIG_TEST_JANITOR_OF"

// Main runs a package's tests with the binary at hand.
func Main(m *testing.M) {
	if dir := os.Getenv(janitorOf); dir != "" {
		if err := tidy(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dismiss, err := prepare()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := dismiss(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}

// prepare builds the binaries as the README does, in a directory that has a janitor.
func prepare() (dismiss func() error, err error) {
	dir, err := os.MkdirTemp("", "xmig-bin-")
	if err != nil {
		return nil, err
	}
	if dismiss, err = hire(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	name(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", "-extldflags=-static", "-o", dir, "xmig/cmd/xmig", "xmig/test/cluster/xlsim")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build xmig: %w\n%s", err, out), dismiss())
	}
	return dismiss, nil
}

// name sets where the binaries are.
func name(dir string) {
	binary, toolstack = filepath.Join(dir, "xmig"), filepath.Join(dir, "xlsim")
}

// hire starts the janitor: this test binary once more, which waits for the end
// of this process. Guests outlive whoever made them; without it they would
// outlive a test run that was ended by its time limit or from the keyboard.
func hire(dir string) (dismiss func() error, err error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), janitorOf+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	end, err := cmd.StdinPipe() // closed by the kernel whatever becomes of us
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("janitor: %w", err)
	}
	return func() error { return errors.Join(end.Close(), cmd.Wait()) }, nil
}

// tidy waits for the end of stdin, ends all that runs a binary in dir and
// removes dir.
func tidy(dir string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("janitor: %w", err)
	}
	name(dir)
	return errors.Join(endAll(""), os.RemoveAll(dir))
}

// endAll ends every process of ours that has word among its arguments,
// those too that come to be meanwhile.
func endAll(word string) error {
	for end := time.Now().Add(stopTime); ; time.Sleep(pollEvery) {
		left, err := running(word)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes that do not end: %v", left)
		}
		for pid := range left {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
	}
}
