package jobs

import (
	"strings"
	"testing"
)

// written makes a journal of words such as "BEGIN1 READY1".
func written(words string) (j Journal) {
	for _, f := range strings.Fields(words) {
		j = append(j, Promise{Fact: Fact(f[:len(f)-1]), Epoch: uint64(f[len(f)-1] - '0'), Attempt: "job." + f[len(f)-1:]})
	}
	return j
}

func TestWhoMayBegin(t *testing.T) {
	job := func(attempt string, e uint64) Job {
		id, _, _ := strings.Cut(attempt, ".")
		return Job{ID: id, Attempt: attempt, Epoch: e}
	}
	for _, c := range []struct {
		name   string
		said   string
		job    Job
		stands bool
		class  Class // empty: it may
	}{
		{"the first", "", job("job.1", 1), false, ""},
		{"again", "BEGIN1", job("job.1", 1), true, ""},
		{"the next, after BACK", "BEGIN1 STOPPING1 BACK1", job("job.2", 2), false, ""},
		{"the next, after one that stopped nothing", "BEGIN1", job("job.2", 2), false, ""},
		{"once it came home", "BEGIN1 STOPPING1 SEALED1 COMMITTING1 DONE1 BEGIN2 READY2 GO2 RUNNING2", job("job.3", 3), false, ""},
		{"a late one", "BEGIN2", job("job.1", 1), false, Lost},
		{"another attempt in its epoch", "BEGIN2", job("job.7", 2), false, Lost},
		{"another job in its epoch", "BEGIN2", job("new.1", 2), false, Final},
		{"another job in a later epoch", "BEGIN2", job("new.1", 1), false, Final},
		{"while an earlier one has the guest", "BEGIN1 STOPPING1", job("job.2", 2), false, Final},
		{"while an earlier one has committed", "BEGIN1 STOPPING1 SEALED1 COMMITTING1", job("job.2", 2), false, Final},
		{"while the guest is not resumed yet", "BEGIN1 STOPPING1 BACK1", job("job.2", 2), true, Retry},
	} {
		err := MayBegin(written(c.said), c.job, c.stands)
		if (err == nil) != (c.class == "") || err != nil && ClassOf(err) != c.class {
			t.Errorf("%s: %v, want class %q", c.name, err, c.class)
		}
	}
}

func TestAttemptAtD(t *testing.T) {
	two := Job{ID: "job", Attempt: "job.2", Epoch: 2}
	for _, c := range []struct {
		said          string
		accept, fill  bool
		ready, writes bool // ready: with a paused copy
	}{
		{"", true, false, false, false},
		{"BEGIN1", true, false, false, false},
		{"BEGIN1", false, false, false, true}, // its session writes
		{"BEGIN2", true, true, true, false},
		{"BEGIN2", true, true, false, true},
		{"BEGIN2 READY2", false, false, false, false},
		{"BEGIN2 ABORTED2", false, false, false, false},
		{"ABORTED2", false, false, false, false}, // an abort overtook it
		{"BEGIN2 BEGIN3", false, false, false, false},
		{"BEGIN3", false, false, false, false},
	} {
		d := written(c.said)
		for what, x := range map[string]struct {
			err error
			may bool
		}{
			"accept": {MayAccept(d, two, c.writes), c.accept},
			"fill":   {MayFill(d, two), c.fill},
			"ready":  {MayReady(d, two, CopyPaused, c.writes), c.ready},
		} {
			if (x.err == nil) != x.may {
				t.Errorf("%q, writes %v: %s: %v", c.said, c.writes, what, x.err)
			}
		}
		if MayReady(d, two, CopyRuns, false) == nil || MayReady(d, two, CopyNone, false) == nil {
			t.Errorf("%q: ready without a paused copy", c.said)
		}
	}
	if two.Attempt = "other.1"; MayFill(written("BEGIN2"), two) == nil {
		t.Error("a session in another attempt's epoch")
	}
}

// TestLives: what a journal says of a VM that is here, or of one that is not seen.
func TestLives(t *testing.T) {
	for words, lives := range map[string]bool{
		"":                           false,
		"BEGIN1 READY1":              false,
		"BEGIN1 READY1 GO1":          true,
		"BEGIN1 READY1 GO1 ABORTED1": false,
		"BEGIN1 READY1 GO1 RUNNING1": true,
		"BEGIN1 READY1 GO1 RUNNING1 BEGIN2 STOPPING2 SEALED2 COMMITTING2 BACK2": true,
		"BEGIN1 READY1 GO1 RUNNING1 BEGIN2 STOPPING2 SEALED2 COMMITTING2 DONE2": false,
		"BEGIN1 READY1 GO1 RUNNING1 BEGIN2 SEALED2 COMMITTING2 DONE2 BEGIN3":    false,
		"BEGIN1 ABORTED1 BEGIN2 READY2 GO2 RUNNING2":                            true,
		"BEGIN1 STOPPING1 BACK1": false,
	} {
		if err := MayReplace(written(words)); (err != nil) != lives {
			t.Errorf("%q: %v, want lives %v", words, err, lives)
		}
	}
}

// TestCarriedOut: what of a promise may be done at S, by hand or by a stub.
func TestCarriedOut(t *testing.T) {
	for _, c := range []struct {
		said                                                 string // of epoch 1, and later ones
		stop, seal, resume, destroy, tellResume, tellDestroy bool
	}{
		{"BEGIN1", true, true, false, false, false, false},
		{"BEGIN1 STOPPING1", false, true, false, false, false, false},
		{"BEGIN1 BACK1", false, false, false, false, true, false},
		{"BEGIN1 STOPPING1 SEALED1 BACK1", false, false, true, false, true, false},
		{"BEGIN1 STOPPING1 SEALED1 COMMITTING1", false, true, false, false, false, false},
		{"BEGIN1 STOPPING1 SEALED1 COMMITTING1 DONE1", false, true, false, true, false, true},
		{"BEGIN1 STOPPING1 SEALED1 COMMITTING1 BACK1 DONE1", false, false, true, true, true, false}, // by a person's word
		{"BEGIN1 STOPPING1 BACK1 BEGIN2", false, false, false, false, true, false},
		{"BEGIN1 STOPPING1 COMMITTING1 DONE1 BEGIN2", false, false, false, false, false, true},
	} {
		s := written(c.said)
		for what, x := range map[string]struct {
			err error
			may bool
		}{
			"stop": {MayStop(s, 1), c.stop}, "seal": {MaySeal(s, 1), c.seal},
			"resume": {MayResume(s, 1), c.resume}, "destroy": {MayDestroy(s, 1), c.destroy},
			"have xl resume": {MayTellResume(s, 1), c.tellResume}, "have xl destroy": {MayTellDestroy(s, 1), c.tellDestroy},
		} {
			if (x.err == nil) != x.may {
				t.Errorf("%q: %s: %v", c.said, what, x.err)
			}
		}
	}
}
