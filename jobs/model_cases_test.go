package jobs

// What a resolution, or a recovery, sees of a world.

func (m *model) evidenceAtS(w *world) Evidence {
	e := Evidence{Node: sNode, Journal: m.sJournal(w)}
	if w.sCopy != copyNone {
		e.Domains = []Seen{{State: stateOf(w.sCopy)}}
	}
	return e
}

func (m *model) evidenceAtD(w *world, host int) Evidence {
	return Evidence{Node: dNodes[host], Journal: m.dJournal(w, host), Domains: seenAs(m.states(w, host))}
}

func seenAs(states []VMState) (all []Seen) {
	for _, s := range states {
		all = append(all, Seen{State: s})
	}
	return all
}

// states are those of the copies at a host D.
func (m *model) states(w *world, host int) []VMState {
	if w.dCopy[host] == copyNone {
		return nil
	}
	return []VMState{stateOf(w.dCopy[host])}
}

func stateOf(c copyState) VMState {
	switch c {
	case copyRunning, copyFlows:
		return VMRunning
	case copyFills:
		return VMPaused
	case copyPassed, copyWaits, copyHeld:
		return VMSuspended
	}
	return VMPaused
}
