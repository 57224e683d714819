package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"xmig/jobs"
)

// sameWish: who sends a signal to a process and to its group, as supervisors
// and shells do, wished for one end only.
const sameWish = 500 * time.Millisecond

// hardExit is the code of a process that was told twice to end.
const hardExit = 130

// untilSignal gives a context that ends with the first SIGINT or SIGTERM;
// with the second one the process ends at once. Jobs survive both: after the
// first they stop at the next step boundary, and carry on with the next start.
func untilSignal(parent context.Context, errs io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case s := <-got:
				if first.IsZero() {
					first = time.Now()
					cancel(jobs.ErrShutdown)
				} else if time.Since(first) > sameWish {
					fmt.Fprintf(errs, "xmig: %s again: ending at once\n", s)
					os.Exit(hardExit)
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() { signal.Stop(got); close(done); cancel(nil) }
}
