package coordinator

import "xmig/jobs"

// Snapshot is what this coordinator knows now. It may be behind by what is
// under way on the bus. It fails while not all there is was read.
func (c *Coordinator) Snapshot() (Snapshot, error) {
	if !c.view.isLive() {
		return Snapshot{}, jobs.RetryLater(jobs.CodeAway, "server %s does not know yet what there is; try again", c.Name)
	}
	return c.view.snapshot(c.Clock()), nil
}
