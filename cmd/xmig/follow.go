package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/bus"
	"xmig/cmd/xmig/show"
	"xmig/jobs"
)

// redrawEvery is how often bars are redrawn at most: smooth, and little for a
// slow terminal line.
const redrawEvery = 200 * time.Millisecond

// errAllEnded ends the watchers of jobs that have ended.
var errAllEnded = errors.New("all jobs ended")

// news is one change of a followed job.
type news struct {
	record   *jobs.Record
	progress *jobs.Progress
}

// follow shows jobs until all have ended, or ctx ends, and returns them as
// they were last seen, in the order asked for.
func follow(ctx context.Context, b *bus.Bus, ids []string, s *screen) ([]jobs.Record, error) {
	g, watch := errgroup.WithContext(ctx)
	heard := make(chan news, 64)
	tell := func(n news) {
		select {
		case heard <- n:
		case <-watch.Done():
		}
	}
	for _, id := range ids {
		g.Go(func() error {
			return b.Records().WatchOne(watch, id, func(r jobs.Record) { tell(news{record: &r}) })
		})
		g.Go(func() error {
			return b.Progress(watch, id, func(p jobs.Progress) { tell(news{progress: &p}) })
		})
	}
	g.Go(func() error { return s.run(watch, ids, heard) })
	err := g.Wait()
	if errors.Is(err, errAllEnded) {
		err = nil
	}
	s.finish()
	return s.records(ids), err
}

// screen shows jobs: bars on a terminal, lines on a pipe.
type screen struct {
	t     *terminal
	lines lineWriter
	views map[string]*show.View
	drawn int // lines of bars on the terminal now
}

// lineWriter writes what is new in a record, for those who read lines.
type lineWriter func(prev, cur jobs.Record) error

// newScreen shows bars if t can be redrawn, else lines.
func newScreen(t *terminal, lines lineWriter) *screen {
	return &screen{t: t, lines: lines, views: map[string]*show.View{}}
}

// asLines writes key=value lines to stdout.
func asLines(t *terminal) lineWriter {
	return func(prev, cur jobs.Record) error {
		for _, l := range show.Lines(prev, cur) {
			if _, err := fmt.Fprintln(t.Out, l); err != nil {
				return err
			}
		}
		return nil
	}
}

// asJSON writes every record as a line of JSON to stdout.
func asJSON(t *terminal) lineWriter {
	return func(_, cur jobs.Record) error { return printLine(t.Out, cur) }
}

// silent: only the end is printed.
func silent(_, _ jobs.Record) error { return nil }

func (s *screen) run(ctx context.Context, ids []string, heard <-chan news) error {
	redraw := time.NewTicker(redrawEvery)
	defer redraw.Stop()
	dirty := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-redraw.C:
			if dirty {
				s.draw(ids)
				dirty = false
			}
		case n := <-heard:
			dirty = true
			if err := s.take(n); err != nil {
				return err
			}
			if s.ended(ids) {
				return errAllEnded
			}
		}
	}
}

func (s *screen) take(n news) error {
	if n.progress != nil {
		s.view(n.progress.Job).Progress = *n.progress
		return nil
	}
	v := s.view(n.record.ID)
	prev := v.Record
	v.Record = *n.record
	if s.lines == nil {
		return nil
	}
	return s.lines(prev, *n.record)
}

func (s *screen) view(id string) *show.View {
	if s.views[id] == nil {
		s.views[id] = &show.View{}
	}
	return s.views[id]
}

func (s *screen) ended(ids []string) bool {
	for _, id := range ids {
		if r := s.view(id).Record; !r.State.Final() || r.ID == "" {
			if r.State != jobs.Indeterminate {
				return false
			}
		}
	}
	return true
}

// draw replaces the bars; it does nothing where lines are written.
func (s *screen) draw(ids []string) {
	if s.lines != nil {
		return
	}
	var lines []string
	for _, id := range ids {
		if v := s.view(id); v.Record.ID != "" {
			lines = append(lines, show.Bars(*v, s.t.Width)...)
		}
	}
	fmt.Fprint(s.t.Out, show.Redraw(s.drawn, lines))
	s.drawn = len(lines)
}

// finish takes the bars away: a report follows, or a word on how to go on.
func (s *screen) finish() {
	if s.lines == nil && s.drawn > 0 {
		fmt.Fprint(s.t.Out, show.Redraw(s.drawn, nil))
		s.drawn = 0
	}
}

func (s *screen) records(ids []string) []jobs.Record {
	out := make([]jobs.Record, 0, len(ids))
	for _, id := range ids {
		out = append(out, s.view(id).Record)
	}
	return out
}

// await follows jobs and prints their reports. It ends with the worst of their
// exit codes, or says how to watch on when waiting ends first.
func await(ctx context.Context, g *globals, t *terminal, b *bus.Bus, ids []string, limit time.Duration, lines lineWriter) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errWaitOver)
		defer cancel()
	}
	ended, err := follow(ctx, b, ids, newScreen(t, lines))
	if cause := context.Cause(ctx); cause != nil && err != nil {
		why := "detached"
		if errors.Is(cause, errWaitOver) {
			why = "waited " + show.Span(limit)
		}
		for _, id := range ids {
			fmt.Fprintf(t.Err, "xmig: %s; the job goes on: xmig job watch %s\n", why, id)
		}
		return &exitError{code: exitStillRunning}
	}
	if err != nil {
		return err
	}
	codes := make([]int, len(ended))
	for i, r := range ended {
		codes[i] = codeOfJob(r)
	}
	if err := printJobs(g, t, ended); err != nil {
		return err
	}
	if c := worst(codes); c != exitDone {
		return &exitError{code: c}
	}
	return nil
}

var errWaitOver = errors.New("waiting is over")

// printJobs prints whole records or their reports.
func printJobs(g *globals, t *terminal, all []jobs.Record) error {
	if g.Output == "json" {
		return printJSON(t.Out, all)
	}
	for _, r := range all {
		if _, err := fmt.Fprint(t.Out, show.Report(r)); err != nil {
			return err
		}
	}
	return nil
}

// liveLines picks how a followed job is shown: nil stands for bars.
func liveLines(g *globals, t *terminal) lineWriter {
	switch {
	case g.Output == "json":
		return silent
	case t.Bars:
		return nil
	}
	return asLines(t)
}
