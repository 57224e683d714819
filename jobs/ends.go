package jobs

import (
	"context"
	"slices"
	"time"
)

// Guest is what the source knows of the VM that is to move.
type Guest struct {
	VM
	DomID         int        `json:"domid"`
	Xen           string     `json:"xen"` // version of the source's Xen
	HWCaps        string     `json:"hw_caps,omitempty"`
	ConfigText    []byte     `json:"config_text,omitempty"`    // its config file, byte for byte
	ConfigMode    uint32     `json:"config_mode,omitempty"`    // its permissions: it may hold passwords
	AutostartLink string     `json:"autostart_link,omitempty"` // path of the link; empty: none
	AutostartText string     `json:"autostart_text,omitempty"` // what the link says
	BootFiles     []BootFile `json:"boot_files,omitempty"`
	NoLive        string     `json:"no_live,omitempty"`          // why it cannot be moved live
	EarlyOpen     bool       `json:"early_open,omitempty"`       // a device model opens its disks while it is restored
	ReadRate      int64      `json:"read_rate_bytes"`            // measured on its first disk, bytes per second
	SendLimit     int64      `json:"send_limit_bytes,omitempty"` // of its host at that moment, bytes per second; 0: none
}

// BootFile is a file outside the disks that the next boot needs.
type BootFile struct {
	Key    string `json:"key"` // kernel, ramdisk, …
	Path   string `json:"path"`
	Size   int64  `json:"size_bytes"`
	Digest Digest `json:"digest"`
	Send   bool   `json:"send,omitempty"` // the destination lacks it
}

// DiskMove is one disk's way.
type DiskMove struct {
	Name      string `json:"name"` // vdev; also the lane's channel
	From      string `json:"from"` // path at the source
	To        string `json:"to"`   // path at the destination
	Size      int64  `json:"size_bytes"`
	Allocated int64  `json:"allocated_bytes"`
	Sector    int    `json:"sector_bytes,omitempty"` // logical; 0 if it does not matter
	ReadOnly  bool   `json:"read_only,omitempty"`
	Proof     string `json:"proof,omitempty"`  // as in Disk
	Alias     string `json:"alias,omitempty"`  // as in Disk
	Shared    bool   `json:"shared,omitempty"` // both hosts see this very disk
}

// Copied tells whether the disk's content has to travel.
func (d DiskMove) Copied() bool { return !d.ReadOnly && !d.Shared }

// Plan is what check decides and every later step obeys.
type Plan struct {
	Mode      Mode          `json:"mode,omitempty"`
	Why       string        `json:"why,omitempty"` // why this mode
	Guest     Guest         `json:"guest"`
	Disks     []DiskMove    `json:"disks,omitempty"`
	Config    string        `json:"config,omitempty"` // path of the config at the destination
	Predicted time.Duration `json:"predicted_ns"`     // blackout, before the first byte moved
}

// Job is what both ends are told of a job.
type Job struct {
	ID, Attempt         string
	Epoch               uint64
	Kind                Kind
	VM                  VMRef
	Source, Destination string
	Spec                Spec
	Plan                Plan
	Word                *Word `json:"word,omitempty"` // of a person, in a resolution
}

// Ticket lets the source into the destination's lane. Only the bus reads it.
type Ticket []byte

// Digest is a BLAKE3-256.
type Digest [32]byte

// PassKind says why a pass is made.
type PassKind string

const (
	SeedPass  PassKind = "seed"  // first pass of an attempt
	DeltaPass PassKind = "delta" // what changed since
	FinalPass PassKind = "final" // the guest does not write any more
)

// PassReport is the outcome of one pass over all disks.
type PassReport struct {
	Number  uint32        `json:"number"`
	Kind    PassKind      `json:"kind"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Limit   int64         `json:"limit_bytes,omitempty"` // that held at its end, the job's or the host's, bytes per second; 0: none
	Disks   []DiskReport  `json:"disks"`
}

// InOrder sorts the disks as the job names them.
func (p PassReport) InOrder(job Job) PassReport {
	at := map[string]int{}
	for i, d := range job.Plan.Disks {
		at[d.Name] = i
	}
	slices.SortFunc(p.Disks, func(a, b DiskReport) int { return at[a.Name] - at[b.Name] })
	return p
}

// Wire sums the bytes that travelled, digests included.
func (p PassReport) Wire() (n int64) {
	for _, d := range p.Disks {
		n += d.Wire
	}
	return n
}

// Changed sums the content, in bytes, that differed, wherever it came from.
func (p PassReport) Changed() (n int64) {
	for _, d := range p.Disks {
		n += d.Sent + d.Found
	}
	return n
}

// DiskReport is one disk's part of a pass. Counts are bytes unless named otherwise.
type DiskReport struct {
	Name      string        `json:"name"`
	Size      int64         `json:"size_bytes"`
	Same      int64         `json:"same_chunks"`
	Differing int64         `json:"differing_chunks"`
	Zero      int64         `json:"zero_bytes"`            // of the differing ones: a flag travelled
	Found     int64         `json:"found_bytes,omitempty"` // content that the destination had on another disk
	Sent      int64         `json:"sent_bytes"`            // content sent, before compression
	Wire      int64         `json:"wire_bytes"`            // all that travelled, both directions
	Written   int64         `json:"written_bytes"`
	Read      int64         `json:"read_bytes"` // from the source's device; holes are not read
	Elapsed   time.Duration `json:"elapsed_ns"`
	Root      Digest        `json:"root"`
}

// Memory is the outcome of sending a guest's memory image.
type Memory struct {
	Bytes   int64         `json:"bytes"`
	Wire    int64         `json:"wire_bytes"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Digest  Digest        `json:"digest"`
}

// Seal is what the source vouches for: with these roots and this image the
// copy is whole. It travels to the destination, which compares with its own.
type Seal struct {
	Pass   uint32            `json:"pass"`
	Roots  map[string]Digest `json:"roots"`
	Memory *Memory           `json:"memory,omitempty"` // nil: cold
	Run    bool              `json:"run"`              // the guest ran, so it shall run there
}

// Answer is the destination's word at check.
type Answer struct {
	Blockers []Blocker `json:"blockers,omitempty"`
	Config   string    `json:"config"`            // where the config will lie
	Lacks    []string  `json:"lacks,omitempty"`   // boot files to be sent
	Shared   []string  `json:"shared,omitempty"`  // disks that are the very same there
	LinkRate int64     `json:"link_rate_bytes"`   // bytes per second a lane to it is expected to carry
	NoLive   string    `json:"no_live,omitempty"` // why it takes no guest in live
}

// Ran is the destination's proof that the guest runs.
type Ran struct {
	DomID int       `json:"domid"`
	At    time.Time `json:"at"` // unpaused, by the destination's clock
}

// Source is the end at the VM's present host. It is always local to the driver.
type Source interface {
	// Inspect tells what is to be moved and what stands against it here.
	Inspect(ctx context.Context, job Job) (Guest, []Blocker, error)
	// Begin journals BEGIN for the epoch that the attempt's own swap won.
	Begin(ctx context.Context, job Job) error
	// Connect enters the destination's lane, anew if an older one is lost.
	Connect(ctx context.Context, job Job, t Ticket) error
	// Pass makes one pass over all disks at once.
	Pass(ctx context.Context, job Job, n uint32, kind PassKind) (PassReport, error)
	// Stop ends the guest's writing: saved through the lane and kept paused
	// (suspend), or shut down (cold). In live mode its memory flows while it
	// runs, which flow is told again and again, and Stop returns when it stands.
	// An error leaves it as Back finds it.
	Stop(ctx context.Context, job Job, flow func(Flow)) (Stopped, error)
	// Drain waits until all of the guest's memory has been sent; nil: none is.
	Drain(ctx context.Context, job Job) (*Memory, error)
	// Seal journals SEALED after it made sure that no reboot of this host
	// starts the guest again.
	Seal(ctx context.Context, job Job, s Seal) error
	SourceHandOver
}

// Stopped is what Stop did.
type Stopped struct {
	At  time.Time `json:"at"` // from here on the guest did not run
	Ran bool      `json:"ran"`
}

// Flow is how far the memory of a guest has come that still runs. Pages that it
// changes travel again, so that more than its memory may be sent.
type Flow struct {
	Sent    int64
	Elapsed time.Duration
}

// SourceHandOver is the source's part in rules R3 to R6 and R13.
type SourceHandOver interface {
	// Commit journals COMMITTING (R4). destination is what D has promised.
	Commit(ctx context.Context, job Job, destination Journal) error
	// Release journals RELEASED (R6): the destination may go without the key.
	Release(ctx context.Context, job Job) error
	// Back journals BACK if R3 or R5 let it, and has the guest run on here.
	// Where nothing ever stopped the guest it only lets go of the attempt.
	Back(ctx context.Context, job Job, known Known) error
	// Finish journals DONE (R13), destroys the source's copy and keeps its disks as shadow.
	Finish(ctx context.Context, job Job, destination Journal) error
	// Promised tells what this host promised, without a look at its domains.
	Promised(ctx context.Context, vm VMRef) (Journal, error)
	// Evidence tells what this host promised and sees.
	Evidence(ctx context.Context, vm VMRef) (Evidence, error)
}

// Destination is the end the VM moves to: local, or behind the bus.
type Destination interface {
	// Check tells all that stands against the plan there.
	Check(ctx context.Context, job Job) (Answer, error)
	// Reserve accepts the epoch after no copy of an earlier attempt is left,
	// and holds memory, space and name.
	Reserve(ctx context.Context, job Job) error
	// Prepare makes or adopts the volumes, stages the config and opens a lane;
	// an earlier lane of the job is closed and its writers joined first.
	Prepare(ctx context.Context, job Job) (Ticket, error)
	// Receive starts the restore, or the receiving end of a live migration, that
	// the lane's memory channel will feed.
	Receive(ctx context.Context, job Job) error
	DestinationHandOver
}

// DestinationHandOver is the destination's part in rules R7 to R10. What Ready, Go
// and Abort answer are promises: of the host's domains only Evidence tells.
type DestinationHandOver interface {
	// Ready waits until the copy is whole, compares with s, and journals READY:
	// the copy is paused under its own name, and no pipe holds it any more.
	Ready(ctx context.Context, job Job, s Seal) (Evidence, error)
	// Go journals GO (R7), has the guest run and journals RUNNING. It may be
	// asked again; the answer is the same. Ran.At and Evidence.At are of one clock.
	Go(ctx context.Context, job Job, p Permission) (Ran, Evidence, error)
	// Abort journals ABORTED (R9) before it destroys its copy. Volumes stay
	// for the next attempt unless the job is over.
	Abort(ctx context.Context, job Job, over AbortScope) (Evidence, error)
	// Settle puts config and autostart link in place and lets go of the job.
	Settle(ctx context.Context, job Job) error
	// Evidence tells what this host promised and sees.
	Evidence(ctx context.Context, vm VMRef) (Evidence, error)
}

// AbortScope says how much an abort takes away.
type AbortScope string

const (
	AttemptOver AbortScope = "attempt" // the copy goes, the volumes stay for the next attempt
	JobOver     AbortScope = "job"     // what the job made goes too
)

// Permission is what lets the destination go: the key as it was read or
// written, or the source's RELEASED; with the source's promises (R7).
type Permission struct {
	Key    *Owner  `json:"key,omitempty"`
	Source Journal `json:"source"`
	Word   *Word   `json:"word,omitempty"` // of a person, in a resolution
	// Boot: a copy that went behind GO is booted from its disks. Only a
	// resolution decides so (R9).
	Boot bool `json:"boot,omitempty"`
}

// Evidence is one host's promises about a VM and what it sees of it now.
type Evidence struct {
	Node    string    `json:"node"`
	Journal Journal   `json:"journal"`
	Domains []Seen    `json:"domains,omitempty"`
	Booted  time.Time `json:"booted"` // when the host came up
	At      time.Time `json:"at"`
}

// Seen is a domain that may be a copy of the VM.
type Seen struct {
	DomID int     `json:"domid"`
	Name  string  `json:"name"`
	State VMState `json:"state"`
}

// Store keeps records; Save is a compare-and-swap on Revision.
type Store interface {
	Load(ctx context.Context, id string) (Record, error)
	Save(ctx context.Context, r Record) (Record, error)
}

// Owner is the value of a VM's owner key.
type Owner struct {
	VM       string `json:"vm"` // UUID
	Name     string `json:"name"`
	Node     string `json:"node"`
	Epoch    uint64 `json:"epoch"`
	Attempt  string `json:"attempt,omitempty"` // whose swap wrote this epoch
	Claim    string `json:"claim,omitempty"`   // the one job that may move the VM
	Revision uint64 `json:"-"`
}

// Is compares what decides: owner, epoch and attempt, never the revision.
func (o Owner) Is(p Owner) bool {
	return o.VM == p.VM && o.Node == p.Node && o.Epoch == p.Epoch && o.Attempt == p.Attempt
}

// Owners keeps one key per VM. Swap changes it from exactly from (by Is) to to
// and repeats an attempt of unknown outcome until it is known or ctx ends;
// it returns the key as it is afterwards. ErrConflict: the key was neither
// from nor already to; the returned key is what it was.
type Owners interface {
	Owner(ctx context.Context, vm string) (Owner, error)
	Swap(ctx context.Context, from, to Owner) (Owner, error)
	// Release takes the job's claim off the key.
	Unclaim(ctx context.Context, vm, job string) error
}

// Events tells the world what happened; losing one loses nothing but a line.
type Events interface {
	Emit(ctx context.Context, e Event)
}

// Event is one line of a job's story.
type Event struct {
	Time    time.Time     `json:"time"`
	Node    string        `json:"node"`
	Job     string        `json:"job"`
	VM      VMRef         `json:"vm"`
	What    string        `json:"what"` // step.begin, step.end, state, held, …
	Step    StepName      `json:"step,omitempty"`
	State   State         `json:"state,omitempty"`
	Attempt int           `json:"attempt"`
	Text    string        `json:"text,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
	Alert   *Alert        `json:"alert,omitempty"` // the story of an alert
	Seq     uint64        `json:"seq,omitempty"`   // its place in what is stored; given when it is read
}

// Progress is what moves while a step runs; it is never stored.
type Progress struct {
	Job       string         `json:"job"`
	VM        VMRef          `json:"vm"`
	Step      StepName       `json:"step"`
	Pass      uint32         `json:"pass"`
	Kind      PassKind       `json:"kind"`
	Disks     []DiskProgress `json:"disks"`
	Predicted time.Duration  `json:"predicted_ns"`
	At        time.Time      `json:"at"`
}

// DiskProgress is one bar. Name "memory" is the memory image.
type DiskProgress struct {
	Name string  `json:"name"`
	Size int64   `json:"size_bytes"`
	Done int64   `json:"done_bytes"`
	Wire int64   `json:"wire_bytes"`
	Rate float64 `json:"rate_bytes"` // of Done, bytes per second
}
