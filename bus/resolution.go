package bus

import (
	"context"
	"errors"

	"xmig/jobs"
)

// Verbs by which a resolution reaches a source from outside; the driver of a
// job has its source beside it. Evidence, and what a destination does, have
// the verbs of a migration.
const (
	verbBack    = "back"
	verbFinish  = "finish"
	verbDiscard = "discard"
)

type (
	backCall struct {
		Job   jobs.Job   `json:"job"`
		Known jobs.Known `json:"known"`
	}
	finishCall struct {
		Job         jobs.Job     `json:"job"`
		Destination jobs.Journal `json:"destination"`
	}
)

// discarder is a host that may be told to destroy its copy.
type discarder interface {
	Discard(ctx context.Context, job jobs.Job) error
}

// ServeResolution has a host answer resolutions: src as a source, and either
// end where a person does not want its copy.
func ServeResolution(s *Service, src jobs.SourceHandOver, either discarder) error {
	return errors.Join(
		Serve(s, verbBack, func(ctx context.Context, c backCall) (done, error) { return done{}, src.Back(ctx, c.Job, c.Known) }),
		Serve(s, verbFinish, func(ctx context.Context, c finishCall) (done, error) {
			return done{}, src.Finish(ctx, c.Job, c.Destination)
		}),
		Serve(s, verbDiscard, func(ctx context.Context, j jobs.Job) (done, error) { return done{}, either.Discard(ctx, j) }),
	)
}

// RemoteSource is a source behind the bus: a jobs.ResolvedSource.
type RemoteSource struct{ c Caller }

// Source is the given node as a job's source, for a resolution.
func (b *Bus) Source(node string) RemoteSource { return RemoteSource{b.Node(node)} }

// Back implements jobs.ResolvedSource, as all that follow do.
func (r RemoteSource) Back(ctx context.Context, job jobs.Job, known jobs.Known) error {
	_, err := Call[backCall, done](ctx, r.c, verbBack, backCall{job, known})
	return err
}

func (r RemoteSource) Finish(ctx context.Context, job jobs.Job, destination jobs.Journal) error {
	_, err := Call[finishCall, done](ctx, r.c, verbFinish, finishCall{job, destination})
	return err
}

func (r RemoteSource) Discard(ctx context.Context, job jobs.Job) error {
	_, err := Call[jobs.Job, done](ctx, r.c, verbDiscard, job)
	return err
}

func (r RemoteSource) Evidence(ctx context.Context, vm jobs.VMRef) (jobs.Evidence, error) {
	return Call[jobs.VMRef, jobs.Evidence](ctx, r.c, verbEvidence, vm)
}

// Discard has the destination destroy its copy.
func (r *RemoteDestination) Discard(ctx context.Context, job jobs.Job) error {
	_, err := callEither[jobs.Job, done](ctx, r, verbDiscard, job)
	return err
}
