package xen

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
)

// What the ends of `xl migrate` say to each other beside the image, the same in
// all versions. Each is read as exactly these bytes.
const (
	Banner = "xl migration receiver ready, send binary domain data.\n" // destination: send
	Ready  = "domain received, ready to unpause\x00"                   // destination: the copy is whole
	Go     = "domain is yours, you are cleared to unpause\x00"         // source: it is yours. Destination: have it back
	Report = "my copy unpause results are as follows\x00"              // destination: a byte follows, 0 for well
)

// MigrateSince is the first Xen whose xl leaves a copy paused when told to.
var MigrateSince = Version{Major: 4, Minor: 8}

// MonitorSurvivesSince is the first Xen whose guests keep their monitor when
// they are suspended and resumed.
var MonitorSurvivesSince = Version{Major: 4, Minor: 20}

// awaySuffix is what xl puts behind a domain's name when it gives GO.
const awaySuffix = "--migratedaway"

// Home is the name that a domain had before xl gave GO for it.
func Home(name string) string { return strings.TrimSuffix(name, awaySuffix) }

// Migrate has xl send a domain while it runs, and returns when xl has ended.
// The transport is a command line for sh, whose process has xl's stream on its
// stdin and answers on its stdout (Stub). Until it has read READY and written
// GO, an xl whose transport ends resumes the guest by itself, or never suspended
// it; from GO on it leaves it suspended, as NAME--migratedaway.
func (x XL) Migrate(ctx context.Context, id int, transport string) error {
	return x.onDomain(ctx, id, effect{args: []string{"migrate", "-s", "", strconv.Itoa(id), transport}})
}

// Receive has xl make a domain of the stream that in gives, its answers go to
// out, and it returns when xl has ended. The copy stays paused whatever comes:
// until GO was written to in, as NAME--incoming, and in's end has xl destroy it;
// from then on under its own name, and nothing but Destroy ends it. Below a
// holder the answers are always heard, also when out's reader has died: an xl
// that nobody hears would leave the copy behind.
func (x XL) Receive(ctx context.Context, in, out *os.File) error {
	return x.act(ctx, effect{args: []string{"migrate-receive", "-p"}, stdin: in, stdout: out, heard: true})
}

// MaySuspendLate tells of a save or migration that failed whether the guest had
// answered the request to suspend, and did not within libxl's minute: it will,
// and nobody waits for it any more.
func MaySuspendLate(err error) bool {
	var failed *CommandError
	return errors.As(err, &failed) && strings.Contains(failed.Stderr, "guest did not suspend, timed out")
}

// ShellCommand is argv as a command line for sh, in whose place it runs.
func ShellCommand(argv ...string) string {
	words := []string{"exec"}
	for _, w := range argv {
		words = append(words, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(words, " ")
}
