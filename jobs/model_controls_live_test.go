package jobs

// Controls of what an attempt may do, of xl and its stub, and of the store.

func attemptControls() []control {
	lanes := []func(*model){func(m *model) { m.lanes = true }}
	return []control{
		{"H1 R1 an attempt begins in the old epoch", rawRuns.String(), func(m *model) {
			m.sameEpoch = true
			m.begin = func(Journal, Job, bool) error { return nil }
		}, nil},
		{"R1 an attempt begins while an earlier one holds the guest", nothing, beginsOver, nil},
		{"R1 the same, with two movers at once", stuckWorlds, func(m *model) { beginsOver(m); m.twoMovers = true }, nil},
		{"H1 R1 the same, and it commits in an epoch that is over", oldRuns.String(), func(m *model) {
			beginsOver(m)
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error { return MayCommit(upTo(s, e), d, e, sees) }
		}, nil},
		{"R1 one attempt stops the guest twice", oldRuns.String(), func(m *model) {
			m.stop = func(s Journal, e uint64) error { return MayStop(without(s, STOPPING, e), e) }
		}, nil},
		{"R1 BACK of an attempt is carried out in the next", twoRun.String(), func(m *model) {
			m.resume = func(s Journal, e uint64) error { return MayResume(upTo(s, e), e) }
		}, nil},
		{"R1 D takes an attempt in while an earlier one writes", lateChunk.String(), func(m *model) {
			m.accept = func(d Journal, job Job, _ bool) error { return MayAccept(d, job, false) }
		}, lanes},
		{"R1 D is ready while a session writes", lateChunk.String(), func(m *model) {
			m.ready = func(d Journal, job Job, copy CopySeen, _ bool) error { return MayReady(d, job, copy, false) }
		}, lanes},
		{"R1 an earlier attempt opens a session again", lateChunk.String(), func(m *model) {
			m.fill = func(d Journal, job Job) error {
				return MayFill(without(upTo(d, job.Epoch), ABORTED, job.Epoch), job)
			}
		}, lanes},
		{"R1 a session is opened behind READY", lateChunk.String(), func(m *model) {
			m.fill = func(d Journal, job Job) error { return MayFill(without(d, READY, job.Epoch), job) }
		}, lanes},
		{"D takes an attempt in over a VM that lives there", nothing, func(m *model) {
			m.replace = func(Journal) error { return nil }
		}, lanes},
		{"D takes an attempt in over a VM that lives there, and S begins it, of two movers", lateChunk.String(), func(m *model) {
			m.replace = func(Journal) error { return nil }
			beginsOver(m)
			m.twoMovers = true
		}, lanes},
	}
}

// beginsOver has S begin an attempt whatever an earlier one does.
func beginsOver(m *model) {
	m.begin = func(s Journal, job Job, _ bool) error { return MayBegin(free(s), job, false) }
}

// free is a journal of S that hides who holds the guest, and upTo one that ends
// with an epoch.
func free(s Journal) (j Journal) {
	for _, p := range s {
		if p.Fact != STOPPING && p.Fact != COMMITTING {
			j = append(j, p)
		}
	}
	return j
}

func upTo(s Journal, e uint64) (j Journal) {
	for _, p := range s {
		if p.Epoch <= e {
			j = append(j, p)
		}
	}
	return j
}

func liveControls() []control {
	in := []func(*model){live}
	return []control{
		{"R4 commits before xl has given GO", twoRun.String(), func(m *model) {
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error {
				return MayCommit(s, d, e, SourceSees{Runs: sees.Runs})
			}
		}, in},
		{"R4 commits for a guest that is gone", oldRuns.String(), func(m *model) {
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error {
				sees.Gone = false
				return MayCommit(s, d, e, sees)
			}
		}, []func(*model){live, crashing}},
		{"R4 commits while the guest runs, live", twoRun.String(), func(m *model) {
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error {
				return MayCommit(s, d, e, SourceSees{CommandRuns: sees.CommandRuns})
			}
		}, in},
		{"R4 passes READY on that D never gave", nothing, func(m *model) {
			m.passReady = func(s, d Journal, e uint64) error { return nil }
		}, in},
		{"R3 a stub has xl resume without BACK", twoRun.String(), func(m *model) {
			m.tellResume = func(Journal, uint64) error { return nil }
		}, in},
		{"R3 no stub has xl resume", stuckWorlds, func(m *model) {
			m.tellResume = func(Journal, uint64) error { return errForbidden }
		}, in},
		{"R13 a stub has xl destroy the copy without DONE", noneLeft.String(), func(m *model) {
			m.tellDestroy = func(Journal, uint64) error { return nil }
		}, in},
		{"R13 S destroys its copy without DONE", noneLeft.String(), func(m *model) {
			m.destroy = func(Journal, uint64) error { return nil }
		}, in},
		{"R3 S resumes without BACK", twoRun.String(), func(m *model) {
			m.resume = func(s Journal, e uint64) error { return MayResume(with(s, BACK, e), e) }
		}, in},
		{"H13 R10 a pipe holds D's copy behind GO", coldBoot.String(), func(m *model) { m.pipe = true }, in},
		{"H2 R3 commits after BACK, live", twoRun.String(), func(m *model) {
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error {
				return MayCommit(without(s, BACK, e), d, e, sees)
			}
		}, in},
		{"H9 R8 goes after ABORTED, elsewhere", twoRun.String(), func(m *model) {
			m.goes = func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
				return MayGo(without(d, ABORTED, e), e, attempt, node, p, c)
			}
		}, []func(*model){elsewhere}},
		{"R7 goes by the key of another attempt, elsewhere", oldRuns.String(), func(m *model) {
			m.goes = func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
				if p.Key != nil && p.Key.Node != sNode {
					p.Key = &Owner{Node: node, Epoch: e + 1, Attempt: attempt}
				}
				return MayGo(d, e, attempt, node, p, c)
			}
		}, []func(*model){elsewhere}},
	}
}

func storeControls() []control {
	in := []func(*model){losesStore}
	return []control{
		{"R12 a key of an earlier making of the store counts", twoRun.String(), func(m *model) {
			m.counts = func(uint64, uint64) error { return nil }
		}, in},
		{"R12 a backup of the store is put back and believed", twoRun.String(), func(m *model) { m.backup = true }, nil},
		{"a swap compares the owner alone", twoRun.String(), func(m *model) {
			m.swaps = func(cur, from, to Owner) (bool, error) { return cur.Node == from.Node, nil }
		}, nil},
		{"R1 S begins in any epoch", rawRuns.String(), func(m *model) {
			m.begin = func(Journal, Job, bool) error { return nil }
		}, in},
		{"R1 the abort's swap comes before BEGIN", twoRun.String(), func(m *model) { m.earlyBar = true }, in},
		{"R8 an abort is taken for another attempt's of its epoch", twoRun.String(), func(m *model) {
			m.foreign = func(Journal, Job) bool { return false }
		}, in},
	}
}
