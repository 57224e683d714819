package jobs

import "slices"

// control is one rule weakened, and what must come of it. The names begin with
// the hole of an earlier text of the rules that it opens again, if it was one.
type control struct {
	name   string
	want   string
	weaken func(*model)
}

func controls() []control {
	return slices.Concat(commitControls(), backControls(), destinationControls(), otherControls())
}

func commitControls() []control {
	type commit = func(s, d Journal, e uint64, sees SourceSees) error
	commits := func(f commit) func(*model) { return func(m *model) { m.commit = f } }
	return []control{
		{"H2 R3 commits after BACK", twoRun.String(), commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(without(s, BACK, e), d, e, sees)
		})},
		{"H10 R4 commits while xl save runs", twoRun.String(), commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(s, d, e, SourceSees{Runs: sees.Runs})
		})},
		{"H10 R4 commits while the guest runs", twoRun.String(), commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(s, d, e, SourceSees{CommandRuns: sees.CommandRuns})
		})},
		{"R4 commits without READY", nothing, commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(s, with(d, READY, e), e, sees)
		})},
		{"H1 R1 commits in an epoch that is over", oldRuns.String(), commits(func(s, d Journal, e uint64, sees SourceSees) error {
			var then Journal
			for _, p := range s {
				if p.Epoch <= e {
					then = append(then, p)
				}
			}
			return MayCommit(then, d, e, sees)
		})},
	}
}

func backControls() []control {
	type back = func(s Journal, e uint64, source string, k Known) error
	backs := func(f back) func(*model) { return func(m *model) { m.goBack = f } }
	return []control{
		{"R5 goes back as it likes", twoRun.String(), backs(func(Journal, uint64, string, Known) error { return nil })},
		{"H5 R5b by any later key of S", twoRun.String(), func(m *model) {
			m.recovers = true // only a repair made too early writes one
			m.goBack = func(s Journal, e uint64, source string, k Known) error {
				if k.Key != nil && k.Key.Node == source && k.Key.Epoch > e && !s.Has(RELEASED, e) {
					return nil
				}
				return MayGoBack(s, e, source, k)
			}
		}},
		{"R5b by the key it began with", twoRun.String(), backs(func(s Journal, e uint64, source string, k Known) error {
			if k.Key != nil && k.Key.Node == source && k.Key.Epoch == e && !s.Has(RELEASED, e) {
				return nil
			}
			return MayGoBack(s, e, source, k)
		})},
		{"H4 R5b after RELEASED", twoRun.String(), backs(func(s Journal, e uint64, source string, k Known) error {
			return MayGoBack(without(s, RELEASED, e), e, source, k)
		})},
		{"H3 R5a not after RELEASED", stuckWorlds, backs(func(s Journal, e uint64, source string, k Known) error {
			if s.Has(RELEASED, e) {
				return errForbidden
			}
			return MayGoBack(s, e, source, k)
		})},
		{"R5a not at all", stuckWorlds, backs(func(s Journal, e uint64, source string, k Known) error {
			return MayGoBack(s, e, source, Known{Key: k.Key})
		})},
		{"R5a by ABORTED of any epoch", twoRun.String(), backs(func(s Journal, e uint64, source string, k Known) error {
			for _, p := range k.Destination {
				if p.Fact == ABORTED {
					return nil
				}
			}
			return MayGoBack(s, e, source, k)
		})},
		{"H4 R6 releases after BACK", twoRun.String(), func(m *model) {
			m.release = func(s Journal, e uint64) error { return MayRelease(without(s, BACK, e), e) }
		}},
		{"R13 destroys on nobody's word", noneLeft.String(), func(m *model) {
			m.finish = func(s, d Journal, e uint64) error { return MayFinish(s, with(d, RUNNING, e), e) }
		}},
		{"R13 destroys on GO", noneLeft.String(), func(m *model) {
			m.finish = func(s, d Journal, e uint64) error {
				if !d.Has(GO, e) {
					return errForbidden
				}
				return MayFinish(s, with(d, RUNNING, e), e)
			}
		}},
	}
}

func destinationControls() []control {
	type goes = func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error
	gos := func(f goes) func(*model) { return func(m *model) { m.goes = f } }
	type abort = func(d Journal, e uint64, c CopySeen) error
	aborts := func(f abort) func(*model) { return func(m *model) { m.abort = f } }
	return []control{
		{"H9 R8 goes after ABORTED", twoRun.String(), gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			return MayGo(without(d, ABORTED, e), e, attempt, node, p, c)
		})},
		{"R7 goes without a copy", coldBoot.String(), gos(func(d Journal, e uint64, attempt, node string, p Permission, _ CopySeen) error {
			return MayGo(d, e, attempt, node, p, CopyPaused)
		})},
		{"R7 goes without key and RELEASED", twoRun.String(), gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			p.Source = with(p.Source, RELEASED, e)
			return MayGo(d, e, attempt, node, p, c)
		})},
		{"H1b R7 goes by any key of D", twoRun.String(), gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			if p.Key != nil {
				key := *p.Key
				key.Epoch, key.Attempt = e+1, attempt
				p.Key = &key
			}
			return MayGo(d, e, attempt, node, p, c)
		})},
		{"R7 goes by the abort's key", twoRun.String(), gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			if p.Key != nil && p.Key.Epoch == e+1 {
				p.Key = &Owner{Node: node, Epoch: e + 1, Attempt: attempt}
			}
			return MayGo(d, e, attempt, node, p, c)
		})},
		{"R7 goes without COMMITTING", nothing, gos(goesUncommitted)},
		{"R7 goes without COMMITTING, and the swap may come before", twoRun.String(), func(m *model) {
			m.goes, m.earlySwap = goesUncommitted, true
		}},
		{"READY is asked for nowhere, SEALED neither", rawRuns.String(), func(m *model) {
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error {
				return MayCommit(with(s, SEALED, e), with(d, READY, e), e, sees)
			}
			m.goes = func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
				return MayGo(with(d, READY, e), e, attempt, node, p, c)
			}
		}},
		{"H7 R9 aborts when no domain is found after GO", oldRuns.String(), aborts(func(d Journal, e uint64, c CopySeen) error {
			if c == CopyNone {
				c = CopyPaused
			}
			return MayAbort(without(d, RUNNING, e), e, c)
		})},
		{"R9 aborts as it likes", twoRun.String(), aborts(func(Journal, uint64, CopySeen) error { return nil })},
		{"R9 never aborts", stuckWorlds, aborts(func(Journal, uint64, CopySeen) error { return errForbidden })},
	}
}

func goesUncommitted(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
	p.Source = with(p.Source, COMMITTING, e)
	return MayGo(d, e, attempt, node, p, c)
}

func otherControls() []control {
	// repairs lets only keys of this kind be repaired.
	repairs := func(may func(Owner) bool) func(*model) {
		return func(m *model) {
			m.repair = func(key Owner, sNode, dNode string, s, d Journal, runs bool) (Owner, bool) {
				to, ok := Repair(key, sNode, dNode, s, d, runs)
				return to, ok && may(to)
			}
		}
	}
	return []control{
		{"H11 R11 no key is ever repaired", stuckWorlds, repairs(func(Owner) bool { return false })},
		{"H11 R11 S never takes the key back", stuckWorlds, repairs(func(to Owner) bool { return to.Node != sNode })},
		{"H11 R11 D never takes the key after", stuckWorlds, repairs(func(to Owner) bool { return to.Node != dNode })},
		{"H1 R1 an attempt begins in the old epoch", oldRuns.String(), func(m *model) { m.sameEpoch = true }},
		{"R1 one attempt stops the guest twice", oldRuns.String(), func(m *model) { m.stopsTwice = true }},
		{"a person says that S is lost, and it runs", twoRun.String(), func(m *model) { m.liesS = true }},
		{"a person says that D is lost, and it runs", twoRun.String(), func(m *model) { m.liesD = true }},
		{"R1 BACK of an attempt is carried out in the next", twoRun.String(), func(m *model) { m.lateBack = true }},
	}
}
