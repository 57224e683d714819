package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// binary is the xmig that is tested, built once per test run. Its path is this
// run's alone, so that every process that runs it is one of ours.
var binary string

// Main runs a package's tests with the binary at hand.
func Main(m *testing.M) {
	dir, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}

// build makes the binary as a release is made: static, without cgo.
func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "xmig-bin-"); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "xmig")
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, "xmig/cmd/xmig")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build xmig: %w\n%s", err, out)
	}
	return dir, nil
}
