package xlsim

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is xlsim as well: called with that word first, it is the
// program, so that guests and xl are real processes here too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "xlsim" {
		os.Exit(Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}
