package jobs

import "time"

// KeptDisk is a shadow in full: a disk copy that a host keeps after its VM moved away: the seed of
// the way back, until nobody wants it any more.
type KeptDisk struct {
	Host  string    `json:"host"`
	VM    VMRef     `json:"vm"`
	Disk  string    `json:"disk"`
	Place string    `json:"place"` // the disk's name when the VM was here
	Path  string    `json:"path"`  // where it is now
	Kind  string    `json:"kind"`
	Size  int64     `json:"size_bytes"`
	Went  string    `json:"went"` // the host that the VM went to
	Job   string    `json:"job"`
	Since time.Time `json:"since"`
	Until time.Time `json:"keep_until"`
	Needs string    `json:"needs,omitempty"` // why it is not pruned by itself although its time is over
}

// MayPrune decides whether a shadow whose time is over goes by itself: only while
// the VM is seen on the host that its key names, which is not this one, and
// nobody is about to move it. It returns why not; "" lets it go.
func (s KeptDisk) MayPrune(now time.Time, said Journal, key *Owner, hosts []Host) string {
	switch {
	case now.Before(s.Until):
		return "it is wanted until " + s.Until.UTC().Format(time.RFC3339)
	case said.lastFact(DONE) == 0 || said.lastGo() > said.lastFact(DONE):
		return "this host's journal does not say that the VM was given away"
	case key == nil:
		return "nobody knows who owns the VM"
	case key.Node == s.Host:
		return "the owner key gives the VM to this host"
	case key.Claim != "":
		return "job " + key.Claim + " is about to move the VM"
	}
	for _, h := range hosts {
		if _, ok := h.Find(s.VM.UUID); ok && h.Node == key.Node {
			return ""
		}
	}
	return "the VM is not seen on " + key.Node + ", which owns it: this may be the last copy of its disk"
}
