package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"xmig/jobs"
)

// TestBandwidth: of a job's spec, what is wished of the job and of the host,
// and the configuration, the right one holds at each time.
func TestBandwidth(t *testing.T) {
	const mib = 1 << 20
	b := newBandwidth(jobs.Bandwidth{Rate: 50 * mib}, time.Now, zerolog.Nop())
	job := jobs.Job{ID: "01J", Spec: jobs.Spec{BWLimit: 20 * mib}}
	some := func(n int64) *int64 { return &n }
	wish := func(n *int64) { b.wish(jobs.Row[jobs.Wish]{Key: job.ID, Value: jobs.Wish{BWLimit: n}}, false) }
	throttle := func(n *int64) {
		b.slow(jobs.Row[jobs.Throttle]{Key: "hv1", Value: jobs.Throttle{BWLimit: n}}, false)
	}
	l := b.of(job)
	check := func(when string, ofJob, ofHost rate.Limit) {
		t.Helper()
		if l[0].Limit() != ofJob || l[1].Limit() != ofHost {
			t.Errorf("%s: the job sends at %v, the host at %v; want %v and %v", when, l[0].Limit(), l[1].Limit(), ofJob, ofHost)
		}
		for _, x := range l {
			if x.Limit() != rate.Inf && x.Burst() < mib {
				t.Errorf("%s: a burst of %d bytes holds no chunk", when, x.Burst())
			}
		}
	}
	check("at first", 20*mib, 50*mib)
	if got := lowest(l); got != 20*mib {
		t.Errorf("the lowest of both is told as %d", got)
	}
	wish(some(5 * mib))
	check("job slowed", 5*mib, 50*mib)
	wish(some(0))
	check("job without a limit", rate.Inf, 50*mib)
	wish(nil)
	check("a wish for something else", 20*mib, 50*mib)
	throttle(some(1 * mib))
	check("host slowed", 20*mib, 1*mib)
	throttle(some(0))
	check("host without a limit", 20*mib, rate.Inf)
	wish(some(0))
	if got := lowest(l); got != 0 {
		t.Errorf("no limit is told as %d", got)
	}
	wish(nil)
	b.slow(jobs.Row[jobs.Throttle]{Key: "hv1"}, true)
	check("the wish for the host gone", 20*mib, 50*mib)
	wish(some(3 * mib))
	b.forget(job.ID)
	l = b.of(job)
	check("the lane opened anew", 3*mib, 50*mib)
	b.wish(jobs.Row[jobs.Wish]{Key: job.ID}, true)
	check("the wish for the job gone", 20*mib, 50*mib)
	b.wish(jobs.Row[jobs.Wish]{Key: "another", Value: jobs.Wish{BWLimit: some(7)}}, false)
	check("another job's wish", 20*mib, 50*mib)
}

// TestBandwidthByTheClock: each rate holds from its minute on, without anybody
// asking, and a clock that jumps is obeyed within a minute. Time in here begins at
// midnight of a Saturday, and passes when all wait.
func TestBandwidthByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		var jump atomic.Int64 // of the wall clock, nanoseconds
		now := func() time.Time { return time.Now().Add(time.Duration(jump.Load())).UTC() }
		own := jobs.Bandwidth{Rate: 50 * mib, Hours: []jobs.RateHours{{Hours: "mon-fri 08:00-18:00", Rate: 1 * mib}, {Hours: "22:00-06:00", Rate: 0}}}
		b := newBandwidth(own, now, zerolog.Nop())
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.keepTime(ctx) }()
		check := func(when string, want rate.Limit) {
			t.Helper()
			synctest.Wait()
			s := b.sending()
			if b.host.Limit() != want || (s.Now == 0) != (want == rate.Inf) || want != rate.Inf && float64(s.Now) != float64(want) {
				t.Errorf("%s: the host sends at %v and tells %+v, want %v", when, b.host.Limit(), s, want)
			}
		}
		until := func(hour, minute int) {
			day := now().Truncate(24 * time.Hour)
			to := day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
			time.Sleep(to.Sub(now()))
		}
		check("in the night of a Saturday", rate.Inf)
		until(5, 59)
		check("at its last minute", rate.Inf)
		until(6, 0)
		check("from six on", 50*mib)
		until(48+8, 0)
		check("Monday, eight", 1*mib)
		time.Sleep(1500 * time.Millisecond) // from here on no full second is one of the wall
		jump.Store(int64(10*time.Hour + 700*time.Millisecond))
		time.Sleep(time.Minute)
		check("put forward to the evening", 50*mib)
		jump.Store(0)
		time.Sleep(time.Minute)
		check("put back to the morning", 1*mib)

		three := int64(3 * mib)
		b.slow(jobs.Row[jobs.Throttle]{Value: jobs.Throttle{BWLimit: &three, By: "ann"}}, false)
		check("wished at once", 3*mib)
		until(18, 0)
		check("wished at all times", 3*mib)
		b.slow(jobs.Row[jobs.Throttle]{Value: jobs.Throttle{Hours: []jobs.RateHours{{Hours: "18:00-19:00", Rate: 2 * mib}}, By: "ann"}}, false)
		check("hours wished", 2*mib)
		b.slow(jobs.Row[jobs.Throttle]{Value: jobs.Throttle{Hours: []jobs.RateHours{{Hours: "whenever", Rate: 1}}, By: "bob"}}, false)
		check("what cannot be read changes nothing", 2*mib)
		until(19, 0)
		check("after them what is configured", 50*mib)
		if s := b.sending(); s.By != "ann" {
			t.Errorf("wished by %q", s.By)
		}
		b.slow(jobs.Row[jobs.Throttle]{}, true)
		until(22, 0)
		check("nothing wished any more", rate.Inf)
		if s := b.sending(); s.By != "" || s.Named != "22:00-06:00" || len(s.Hours) != 2 {
			t.Errorf("as configured: %+v", s)
		}
		cancel(errors.New("told to end"))
		if err := <-ended; err != nil {
			t.Errorf("the clock ends with %v", err)
		}
	})
}

func TestToFullMinute(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for at, want := range map[time.Duration]time.Duration{0: time.Minute, time.Nanosecond: time.Minute - time.Nanosecond, 59 * time.Second: time.Second} {
		if got := toFullMinute(noon.Add(at)); got != want {
			t.Errorf("%s after a full minute it is %s to the next, want %s", at, got, want)
		}
	}
}
