package xen_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"xmig/xen"
	"xmig/xen/xlsim"
)

// The test binary is the simulated toolstack, the holder and a worker that can
// be killed as well: called with that word first, it is the program. So all of
// them, and the guests, are real processes here.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "xlsim":
			os.Exit(xlsim.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "hold":
			os.Exit(xen.RunHolder(os.Args[2:]))
		case "worker":
			os.Exit(runWorker(os.Args[2:]))
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each of them ends a second later
	goleak.VerifyTestMain(m)
}
