package node

import (
	"testing"

	"golang.org/x/time/rate"

	"xmig/jobs"
)

// TestBandwidth: of a job's spec, what is wished of the job and of the host,
// and the configuration, the right one holds at each time.
func TestBandwidth(t *testing.T) {
	const mib = 1 << 20
	b := newBandwidth(50 * mib)
	job := jobs.Job{ID: "01J", Spec: jobs.Spec{BWLimit: 20 * mib}}
	some := func(n int64) *int64 { return &n }
	wish := func(n *int64) { b.wish(jobs.Row[jobs.Wish]{Key: job.ID, Value: jobs.Wish{BWLimit: n}}, false) }
	throttle := func(n *int64) {
		b.throttle(jobs.Row[jobs.Throttle]{Key: "hv1", Value: jobs.Throttle{BWLimit: n}}, false)
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
	b.throttle(jobs.Row[jobs.Throttle]{Key: "hv1"}, true)
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
