package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"xmig/bus"
	"xmig/jobs"
)

// TestDeadJobs: what somebody must look at, and nothing else.
func TestDeadJobs(t *testing.T) {
	r := func(id, vm string, s jobs.State) jobs.Record {
		return jobs.Record{ID: id, VM: jobs.VMRef{UUID: vm}, State: s, Spec: jobs.Spec{Kind: jobs.KindMigrate}, Failure: &jobs.Failure{Text: "no space"}}
	}
	synced := r("09", "", jobs.FailedState)
	synced.Spec.Kind = jobs.KindSync
	all := []jobs.Record{
		r("01", "a", jobs.FailedState), // tried again by 02
		r("02", "a", jobs.RolledBack),
		r("03", "b", jobs.RolledBack), // its VM has moved since
		r("04", "b", jobs.Succeeded),
		r("05", "c", jobs.Cancelled),
		r("06", "d", jobs.Indeterminate),
		r("07", "e", jobs.Planned), // its doorbell is dead
		r("08", "f", jobs.Planned),
		synced,
		r("10", "g", jobs.FailedState),
	}
	bells := map[string]bus.DeadBell{"07": {Job: "07", Tries: 20, At: time.Unix(0, 0)}, "05": {Job: "05"}}
	var got []string
	for _, d := range deadJobs(all, bells) {
		got = append(got, d.ID+" "+d.Next)
		if d.Why == "" {
			t.Errorf("%s: no reason", d.ID)
		}
	}
	var want []string
	for _, id := range []string{"02", "06", "07", "09", "10"} {
		next := "xmig job retry " + id
		if id == "06" {
			next = "xmig resolve " + id
		}
		want = append(want, fmt.Sprintf("%s %s", id, next))
	}
	if !slices.Equal(got, want) {
		t.Errorf("dead are %q, want %q", got, want)
	}
}

// TestRetryOfADeadDoorbell: a job that its worker never answered for is seen,
// and goes on when it is tried again, as the same job.
func TestRetryOfADeadDoorbell(t *testing.T) {
	url, b := testBus(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rec, err := b.Records().Create(ctx, record("01JDB4Q6Y0ZJ8X5V9W2K7T4R1M", jobs.Running))
	if err != nil {
		t.Fatal(err)
	}
	q, err := b.Queue(ctx, "hv1", bus.QueueConfig{})
	if err == nil {
		err = b.Ring(ctx, rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	expect := func(args string, code int, want string) {
		t.Helper()
		got, out, errs := command(t, url, strings.Fields(args)...)
		if got != code || !strings.Contains(out+errs, want) {
			t.Fatalf("xmig %s: exit code %d, want %d and %q: %s%s", args, got, code, want, out, errs)
		}
	}
	expect("job ls --dead", 0, "no job waits for anybody")
	expect("job retry web01", 3, "has not ended: it is running")
	dead := map[string]bus.DeadBell{}
	for len(dead) == 0 {
		short, end := context.WithTimeout(ctx, 200*time.Millisecond)
		if d, err := q.Next(short); err == nil {
			err = d.Later(ctx, time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
		} else if dead, err = b.DeadBells(ctx); err != nil {
			t.Fatal(err)
		}
		end()
	}
	expect("job ls --dead", 0, "its doorbell rang 20 times and was given up")
	expect("job ls --dead --active", 2, "give it alone")
	expect("job retry web01 --detach", 0, rec.ID)
	if d, err := q.Next(ctx); err != nil || d.Job != rec.ID {
		t.Fatalf("after the retry %+v rings, %v", d, err)
	}
	expect("job ls --dead", 0, "no job waits for anybody")
}
