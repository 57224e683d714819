package jobs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Kind says what a job moves.
type Kind string

const (
	KindMigrate Kind = "migrate" // a VM with its disks
	KindSync    Kind = "sync"    // one device, without any domain
)

// Mode says how a guest is carried over.
type Mode string

const (
	Auto    Mode = "auto"    // the first of live, suspend, cold that fits
	Live    Mode = "live"    // memory and disks while it runs
	Suspend Mode = "suspend" // saved and restored through the lane
	Cold    Mode = "cold"    // shut down, moved, booted
)

// Verify says how much is compared at the end.
type Verify string

const (
	VerifyDelta Verify = "delta" // roots over what was compared and written
	VerifyFull  Verify = "full"  // both disks read again after the last fsync
	VerifyNone  Verify = "none"  // no reading again; what was sent is always checked
)

// OnTimeout says what happens when passes do not shrink to the budget.
type OnTimeout string

const (
	TimeoutAbort   OnTimeout = "abort"   // go back; the guest never stopped
	TimeoutHold    OnTimeout = "hold"    // keep passing until a person decides
	TimeoutSuspend OnTimeout = "suspend" // take the longer blackout
)

// Defaults of a spec.
const (
	// DefaultMaxDowntime is what most TCP sessions and cluster watchdogs stand.
	DefaultMaxDowntime = 5 * time.Second
	// DefaultKeepSource keeps the source's disks for a working day and a night.
	DefaultKeepSource = 24 * time.Hour
	// DefaultPriority is the one of a person's request; a drain has 100.
	DefaultPriority = 50
)

// Mapping says what is called otherwise at the destination.
type Mapping struct {
	Disks   map[string]string `json:"disks,omitempty"`   // path at the source → path at the destination
	Bridges map[string]string `json:"bridges,omitempty"` // bridge at the source → bridge at the destination
	Shared  []string          `json:"shared,omitempty"`  // paths at the source of disks, or of directories, that both hosts see
}

// IsShared tells whether a person said that both hosts see the disk at path.
func (m Mapping) IsShared(path string) bool {
	return slices.ContainsFunc(m.Shared, func(s string) bool {
		return path == s || strings.HasPrefix(path, strings.TrimSuffix(s, "/")+"/")
	})
}

// Disk gives the path at the destination of a disk at the source: the mapping
// of the whole path, or of the longest mapped directory above it, or the same path.
func (m Mapping) Disk(path string) string {
	if to, ok := m.Disks[path]; ok {
		return to
	}
	best := ""
	for from := range m.Disks {
		dir := strings.TrimSuffix(from, "/") + "/"
		if strings.HasPrefix(path, dir) && len(from) > len(best) {
			best = from
		}
	}
	if best == "" {
		return path
	}
	return strings.TrimSuffix(m.Disks[best], "/") + "/" + strings.TrimPrefix(path, strings.TrimSuffix(best, "/")+"/")
}

// Bridge gives the bridge at the destination of a bridge at the source.
func (m Mapping) Bridge(name string) string {
	if to, ok := m.Bridges[name]; ok {
		return to
	}
	return name
}

// With adds what other maps and m does not.
func (m Mapping) With(other Mapping) Mapping {
	out := Mapping{Disks: maps.Clone(other.Disks), Bridges: maps.Clone(other.Bridges), Shared: slices.Concat(m.Shared, other.Shared)}
	if out.Disks == nil {
		out.Disks = m.Disks
	} else {
		maps.Copy(out.Disks, m.Disks)
	}
	if out.Bridges == nil {
		out.Bridges = m.Bridges
	} else {
		maps.Copy(out.Bridges, m.Bridges)
	}
	return out
}

// Cutover says when the guest may be stopped.
type Cutover string

const (
	CutoverNow    Cutover = "now"    // as soon as the blackout fits
	CutoverManual Cutover = "manual" // when a person says so; until then passes keep the copy fresh
)

// Spec is what a person or a rule asks for. It never changes once accepted.
type Spec struct {
	Kind        Kind          `json:"kind"`
	VM          string        `json:"vm,omitempty"`        // name or UUID, as asked
	From        string        `json:"from,omitempty"`      // source node; empty: where the VM is
	To          string        `json:"to,omitempty"`        // destination node; empty: placed
	SyncFrom    string        `json:"sync_from,omitempty"` // device at From, for KindSync
	SyncTo      string        `json:"sync_to,omitempty"`   // device at To, for KindSync
	Mode        Mode          `json:"mode,omitempty"`
	MaxDowntime time.Duration `json:"max_downtime_ns"`
	BWLimit     int64         `json:"bwlimit_bytes,omitempty"` // bytes per second, 0 = none
	Priority    int           `json:"priority"`
	OnTimeout   OnTimeout     `json:"on_timeout"`
	Verify      Verify        `json:"verify"`
	KeepSource  time.Duration `json:"keep_source_ns"`
	Map         Mapping       `json:"map"`
	By          string        `json:"by,omitempty"`     // who asked
	Reason      string        `json:"reason,omitempty"` // why
	RetryOf     string        `json:"retry_of,omitempty"`
	Drain       string        `json:"drain,omitempty"` // id of the drain or restore that asked
	NotBefore   time.Time     `json:"not_before,omitzero"`
	Cutover     Cutover       `json:"cutover,omitempty"`
	CutoverAt   time.Time     `json:"cutover_at,omitzero"` // the guest is not stopped before
}

// WithDefaults fills in what was left out.
func (s Spec) WithDefaults() Spec {
	if s.Kind == "" {
		s.Kind = KindMigrate
	}
	if s.Mode == "" {
		s.Mode = Auto
	}
	if s.MaxDowntime == 0 {
		s.MaxDowntime = DefaultMaxDowntime
	}
	if s.Priority == 0 {
		s.Priority = DefaultPriority
	}
	if s.OnTimeout == "" {
		s.OnTimeout = TimeoutAbort
	}
	if s.Verify == "" {
		s.Verify = VerifyDelta
	}
	if s.KeepSource == 0 {
		s.KeepSource = DefaultKeepSource
	}
	if s.Cutover == "" {
		s.Cutover = CutoverNow
	}
	return s
}

// SameRequest tells whether two specs, of which defaults are filled in, ask for
// the same of one VM on one host, whoever asks and why.
func (s Spec) SameRequest(o Spec) bool {
	if !s.NotBefore.Equal(o.NotBefore) || !s.CutoverAt.Equal(o.CutoverAt) || !s.Map.equal(o.Map) {
		return false
	}
	for _, x := range []*Spec{&s, &o} {
		x.VM, x.From, x.By, x.Reason = "", "", "", ""
		x.NotBefore, x.CutoverAt, x.Map = time.Time{}, time.Time{}, Mapping{}
	}
	return reflect.DeepEqual(s, o)
}

// equal takes an empty list for none, as the store does.
func (m Mapping) equal(o Mapping) bool {
	return maps.Equal(m.Disks, o.Disks) && maps.Equal(m.Bridges, o.Bridges) && slices.Equal(m.Shared, o.Shared)
}

var nodeName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// ValidNode reports whether name can be a node's id: it is a token of subjects and keys.
func ValidNode(name string) bool { return nodeName.MatchString(name) }

// Validate reports all faults of a spec at once.
func (s Spec) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch s.Kind {
	case KindMigrate:
		if s.VM == "" {
			bad("no vm named")
		}
	case KindSync:
		if s.From == "" || s.To == "" || s.SyncFrom == "" || s.SyncTo == "" {
			bad("sync needs HOST:DEVICE twice")
		}
	default:
		bad("kind %q: want migrate or sync", s.Kind)
	}
	for _, n := range []string{s.From, s.To} {
		if n != "" && !ValidNode(n) {
			bad("host %q: a node name is 1 to 32 of a-z, 0-9 and -", n)
		}
	}
	switch same := s.From != "" && s.From == s.To; {
	case same && s.Kind == KindMigrate:
		bad("source and destination are the same host, %s", s.To)
	case same && s.SyncFrom == s.SyncTo && s.SyncTo != "":
		bad("source and destination are the same device, %s:%s", s.To, s.SyncTo)
	}
	oneOf(&errs, "mode", s.Mode, Auto, Live, Suspend, Cold)
	oneOf(&errs, "verify", s.Verify, VerifyDelta, VerifyFull, VerifyNone)
	oneOf(&errs, "cutover", cmp.Or(s.Cutover, CutoverNow), CutoverNow, CutoverManual)
	oneOf(&errs, "on-timeout", s.OnTimeout, TimeoutAbort, TimeoutHold, TimeoutSuspend)
	if s.MaxDowntime < 0 {
		bad("max-downtime %s: below zero", s.MaxDowntime)
	}
	if s.BWLimit < 0 {
		bad("bwlimit %d bytes/s: below zero", s.BWLimit)
	}
	if s.KeepSource < 0 {
		bad("keep-source %s: below zero", s.KeepSource)
	}
	for _, from := range slices.Sorted(maps.Keys(s.Map.Disks)) {
		if to := s.Map.Disks[from]; !strings.HasPrefix(from, "/") || !strings.HasPrefix(to, "/") {
			bad("map disk=%s:%s: both paths must begin with /", from, to)
		}
	}
	for _, path := range s.Map.Shared {
		if !strings.HasPrefix(path, "/") {
			bad("map shared=%s: the path must begin with /", path)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(s.Map.Bridges)) {
		if to := s.Map.Bridges[from]; from == "" || to == "" {
			bad("map bridge=%s:%s: both names must be given", from, to)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &Error{Class: Final, Code: CodeUsage, Err: errors.Join(errs...)}
}

func oneOf[T ~string](errs *[]error, what string, got T, want ...T) {
	for _, w := range want {
		if got == w {
			return
		}
	}
	*errs = append(*errs, fmt.Errorf("%s %q: want one of %v", what, got, want))
}
