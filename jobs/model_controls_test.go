package jobs

import "slices"

// control is one rule weakened, and what must come of it. The names begin with
// the hole of an earlier text of the rules that it opens again, if it was one.
type control struct {
	name   string
	want   string
	weaken func(*model)
	in     []func(*model) // the setting that shows it soonest; none: suspend, both attempts to one host
}

func controls() []control {
	return slices.Concat(commitControls(), backControls(), destinationControls(), otherControls(), attemptControls(), liveControls(), storeControls())
}

func commitControls() []control {
	type commit = func(s, d Journal, e uint64, sees SourceSees) error
	commits := func(f commit) func(*model) { return func(m *model) { m.commit = f } }
	return []control{
		{name: "H2 R3 commits after BACK", want: twoRun.String(), weaken: commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(without(s, BACK, e), d, e, sees)
		})},
		{name: "H10 R4 commits while xl save runs", want: twoRun.String(), weaken: commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(s, d, e, SourceSees{Runs: sees.Runs})
		})},
		{name: "H10 R4 commits while the guest runs", want: twoRun.String(), weaken: commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(s, d, e, SourceSees{CommandRuns: sees.CommandRuns})
		})},
		{name: "R4 commits without READY", want: nothing, weaken: commits(func(s, d Journal, e uint64, sees SourceSees) error {
			return MayCommit(s, with(d, READY, e), e, sees)
		})},
		{name: "R1 commits in an epoch that is over", want: nothing, weaken: commits(func(s, d Journal, e uint64, sees SourceSees) error {
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
		{name: "R5 goes back as it likes", want: twoRun.String(), weaken: backs(func(Journal, uint64, string, Known) error { return nil })},
		{name: "H5 R5b by any later key of S", want: twoRun.String(), weaken: func(m *model) {
			m.recovers = true // only a repair made too early writes one
			m.goBack = func(s Journal, e uint64, source string, k Known) error {
				if k.Key != nil && k.Key.Node == source && k.Key.Epoch > e && !s.Has(RELEASED, e) {
					return nil
				}
				return MayGoBack(s, e, source, k)
			}
		}},
		{name: "R5b by the key it began with", want: twoRun.String(), weaken: backs(func(s Journal, e uint64, source string, k Known) error {
			if k.Key != nil && k.Key.Node == source && k.Key.Epoch == e && !s.Has(RELEASED, e) {
				return nil
			}
			return MayGoBack(s, e, source, k)
		})},
		{name: "H4 R5b after RELEASED", want: twoRun.String(), weaken: backs(func(s Journal, e uint64, source string, k Known) error {
			return MayGoBack(without(s, RELEASED, e), e, source, k)
		})},
		{name: "H3 R5a not after RELEASED", want: stuckWorlds, weaken: backs(func(s Journal, e uint64, source string, k Known) error {
			if s.Has(RELEASED, e) {
				return errForbidden
			}
			return MayGoBack(s, e, source, k)
		})},
		{name: "R5a not at all", want: stuckWorlds, weaken: backs(func(s Journal, e uint64, source string, k Known) error {
			return MayGoBack(s, e, source, Known{Key: k.Key})
		})},
		{name: "R5a by ABORTED of any epoch", want: twoRun.String(), weaken: backs(func(s Journal, e uint64, source string, k Known) error {
			for _, p := range k.Destination {
				if p.Fact == ABORTED {
					return nil
				}
			}
			return MayGoBack(s, e, source, k)
		})},
		{name: "H4 R6 releases after BACK", want: twoRun.String(), weaken: func(m *model) {
			m.release = func(s Journal, e uint64) error { return MayRelease(without(s, BACK, e), e) }
		}},
		{name: "R13 destroys on nobody's word", want: noneLeft.String(), weaken: func(m *model) {
			m.finish = func(s, d Journal, e uint64) error { return MayFinish(s, with(d, RUNNING, e), e) }
		}},
		{name: "R13 destroys on GO", want: noneLeft.String(), weaken: func(m *model) {
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
		{name: "H9 R8 goes after ABORTED", want: twoRun.String(), weaken: gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			return MayGo(without(d, ABORTED, e), e, attempt, node, p, c)
		})},
		{name: "R7 goes without a copy", want: coldBoot.String(), weaken: gos(func(d Journal, e uint64, attempt, node string, p Permission, _ CopySeen) error {
			return MayGo(d, e, attempt, node, p, CopyPaused)
		})},
		{name: "R7 goes without key and RELEASED", want: twoRun.String(), weaken: gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			p.Source = with(p.Source, RELEASED, e)
			return MayGo(d, e, attempt, node, p, c)
		})},
		{name: "H1b R7 goes by any key of D", want: twoRun.String(), weaken: gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			if p.Key != nil {
				key := *p.Key
				key.Epoch, key.Attempt = e+1, attempt
				p.Key = &key
			}
			return MayGo(d, e, attempt, node, p, c)
		})},
		{name: "R7 goes by the abort's key", want: twoRun.String(), weaken: gos(func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
			if p.Key != nil && p.Key.Epoch == e+1 {
				p.Key = &Owner{Node: node, Epoch: e + 1, Attempt: attempt}
			}
			return MayGo(d, e, attempt, node, p, c)
		})},
		{name: "R7 goes without COMMITTING", want: nothing, weaken: gos(goesUncommitted)},
		{name: "R7 goes without COMMITTING, and the swap may come before", want: twoRun.String(), weaken: func(m *model) {
			m.goes, m.earlySwap = goesUncommitted, true
		}},
		{name: "READY is asked for nowhere, SEALED neither", want: rawRuns.String(), weaken: func(m *model) {
			m.commit = func(s, d Journal, e uint64, sees SourceSees) error {
				return MayCommit(with(s, SEALED, e), with(d, READY, e), e, sees)
			}
			m.goes = func(d Journal, e uint64, attempt, node string, p Permission, c CopySeen) error {
				return MayGo(with(d, READY, e), e, attempt, node, p, c)
			}
		}},
		{name: "H7 R9 aborts when no domain is found after GO", want: oldRuns.String(), weaken: aborts(func(d Journal, e uint64, c CopySeen) error {
			if c == CopyNone {
				c = CopyPaused
			}
			return MayAbort(without(d, RUNNING, e), e, c)
		})},
		{name: "R9 aborts as it likes", want: twoRun.String(), weaken: aborts(func(Journal, uint64, CopySeen) error { return nil })},
		{name: "R9 never aborts", want: stuckWorlds, weaken: aborts(func(Journal, uint64, CopySeen) error { return errForbidden })},
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
		{name: "H11 R11 no key is ever repaired", want: stuckWorlds, weaken: repairs(func(Owner) bool { return false })},
		{name: "H11 R11 S never takes the key back", want: stuckWorlds, weaken: repairs(func(to Owner) bool { return to.Node != sNode })},
		{name: "H11 R11 D never takes the key after", want: stuckWorlds, weaken: repairs(func(to Owner) bool { return to.Node != dNode })},
		{name: "a person says that S is lost, and it runs", want: twoRun.String(), weaken: func(m *model) { m.liesS = true }},
		{name: "a person says that D is lost, and it runs", want: twoRun.String(), weaken: func(m *model) { m.liesD = true }},
	}
}
