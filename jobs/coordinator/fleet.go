package coordinator

import (
	"context"
	"time"

	"xmig/jobs"
)

// Table keeps rows by compare-and-swap: Save fails with jobs.ErrConflict where
// the row was changed since it was read; one that is not there loads as the
// zero value with Revision 0.
type Table[T any] interface {
	Load(ctx context.Context, key string) (jobs.Row[T], error)
	Save(ctx context.Context, row jobs.Row[T]) (jobs.Row[T], error)
	Remove(ctx context.Context, row jobs.Row[T]) error
	List(ctx context.Context) ([]jobs.Row[T], error)
	Watch(ctx context.Context, tell func(row jobs.Row[T], gone bool)) error
}

// DefaultDeadline of a drain: afterwards nothing more is started.
const DefaultDeadline = time.Hour

// DrainRequest asks for a host to be emptied, or for its VMs to come home.
type DrainRequest struct {
	Host     string        `json:"host"`
	Kind     DrainKind     `json:"kind"` // default: drain
	By       string        `json:"by"`
	Reason   string        `json:"reason,omitempty"`
	Deadline time.Duration `json:"deadline_ns,omitempty"` // from now; 0: DefaultDeadline
	Whole    bool          `json:"whole,omitempty"`
	Canary   bool          `json:"canary,omitempty"`
	After    string        `json:"after,omitempty"`
	How      jobs.Spec     `json:"how,omitzero"` // mode, max-downtime and the like, for every VM
}

// DrainAnswer is what became of a request.
type DrainAnswer struct {
	Mark     Mark `json:"mark"`
	Attached bool `json:"attached"` // it was under way already
}
