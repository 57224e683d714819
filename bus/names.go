package bus

import (
	"fmt"
	"regexp"
	"strings"

	"xmig/jobs"
)

// Prefix is the first token of every subject and bucket unless set otherwise.
// Two installations that share an account each need their own.
const Prefix = "xmig"

// Names of streams, buckets and subjects, less the prefix. doc.go has the table.
const (
	streamJobs   = "JOBS"
	streamEvents = "EVENTS"
	streamDead   = "DEAD"

	bucketJobs   = "jobs"
	bucketVMs    = "vms"
	bucketLeases = "leases"
	bucketNodes  = "nodes"
	bucketFleet  = "fleet"

	bucketInventory = "inventory"

	tokenJob         = "job"
	tokenEvent       = "event"
	tokenProgress    = "progress"
	tokenNode        = "node"
	tokenCoordinator = "coordinator"
	tokenLane        = "lane"
	tokenAlert       = "alert"

	// Advisories of the server that mean a doorbell is dead.
	advisoryMaxDeliveries = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."
	advisoryTerminated    = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED."

	headerDeadline = "Xmig-Deadline" // RFC 3339 with nanoseconds, the caller's clock
	headerTimeout  = "Xmig-Timeout"  // what is left of it, so that clocks need not agree
	headerWorking  = "Xmig-Working"  // a reply that only says: still at it

	metaVersion    = "xmig.version"
	metaSchema     = "xmig.schema"
	metaGeneration = "xmig.generation"
)

// Subjects are also keys and names, and a dot or a star in one would change its meaning.
var (
	prefixForm = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)
	tokenForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	uuidForm   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// names makes every name on the wire out of the prefix.
type names struct{ prefix string }

func newNames(prefix string) (names, error) {
	if prefix == "" {
		prefix = Prefix
	}
	if !prefixForm.MatchString(prefix) {
		return names{}, jobs.Failed(jobs.CodeUsage, "bus prefix %q: want 1 to 16 of a-z and 0-9, a letter first", prefix)
	}
	return names{prefix}, nil
}

func (n names) stream(s string) string      { return strings.ToUpper(n.prefix) + "_" + s }
func (n names) bucket(b string) string      { return n.prefix + "_" + b }
func (n names) kvStream(b string) string    { return "KV_" + n.bucket(b) }
func (n names) kvKey(b, key string) string  { return "$KV." + n.bucket(b) + "." + key }
func (n names) subject(t ...string) string  { return n.prefix + "." + strings.Join(t, ".") }
func (n names) bell(node, vm string) string { return n.subject(tokenJob, node, vm) }
func (n names) nodeVerb(node, verb string) string {
	return n.subject(tokenNode, node, verb)
}
func (n names) coordinatorVerb(verb string) string { return n.subject(tokenCoordinator, verb) }
func (n names) progress(job string) string         { return n.subject(tokenProgress, job) }

// lane is a subject of one opening of a lane; what has a dot where it is one end's.
func (n names) lane(s LaneSpec, what ...string) string {
	return n.subject(append([]string{tokenLane, s.Job, s.opening}, what...)...)
}

func consumerOf(node string) string      { return "node-" + node }
func inboxOf(node string) string         { return "_INBOX_" + node }
func laneStream(job, what string) string { return "LANE_" + job + "_" + what }
func recordKey(node, id string) string   { return node + "." + id }

func checkNode(node string) error {
	if !jobs.ValidNode(node) {
		return jobs.Failed(jobs.CodeUsage, "node %q: a node name is 1 to 32 of a-z, 0-9 and -", node)
	}
	return nil
}

func checkToken(what, s string) error {
	if !tokenForm.MatchString(s) {
		return jobs.Failed(jobs.CodeUsage, "%s %q: want 1 to 64 of a-z, A-Z, 0-9, _ and -", what, s)
	}
	return nil
}

func checkVM(vm string) error {
	if !uuidForm.MatchString(vm) {
		return jobs.Failed(jobs.CodeUsage, "vm %q: want its UUID in small letters", vm)
	}
	return nil
}

// token makes any text a subject token; what had to be changed is told apart
// from what looked so from the start by nobody, so it is for events only.
func token(s string) string {
	if s == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '*' || r == '>' || r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
}

// eventSubject is prefix.event.{job|host|vm|alert}.<id>.<what>; what may have dots.
func (n names) eventSubject(kind, id, what string) string {
	var parts []string
	for _, w := range strings.Split(what, ".") {
		parts = append(parts, token(w))
	}
	return n.subject(tokenEvent, kind, token(id), strings.Join(parts, "."))
}

func (n names) String() string { return fmt.Sprintf("bus names with prefix %s", n.prefix) }
