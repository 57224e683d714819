package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// beEnd makes the test binary one end of a measurement.
const beEnd = "XMIG_TEST_BENCH_END"

func TestMain(m *testing.M) {
	if os.Getenv(beEnd) != "" {
		if err := RunEnd(context.Background(), os.Stdin, os.Stdout, zerolog.Nop(), nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func testOptions() Options {
	return Options{Start: func(ctx context.Context, _ Role) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Env = append(os.Environ(), beEnd+"=1")
		cmd.Stderr = os.Stderr
		return cmd
	}}
}

func testPair(t *testing.T, o Options) *Pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	p, err := StartPair(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}
