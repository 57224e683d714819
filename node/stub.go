package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"xmig/jobs"
	"xmig/node/journal"
	"xmig/xen"
)

// The source's stub of a live migration, by the rules of jobs and this host's
// journal. package xen has the rest of it.

// stubArgs tell a stub whose it is.
type stubArgs struct {
	Journals string
	VM       jobs.VMRef
	Epoch    uint64
	Attempt  string
}

func (a stubArgs) words() []string {
	return []string{a.Journals, a.VM.UUID, a.VM.Name, strconv.FormatUint(a.Epoch, 10), a.Attempt}
}

func readStubArgs(words []string) (a stubArgs, err error) {
	if len(words) != 5 {
		return a, fmt.Errorf("%d words: it is started by xl, for a worker", len(words))
	}
	a = stubArgs{Journals: words[0], VM: jobs.VMRef{UUID: words[1], Name: words[2]}, Attempt: words[4]}
	a.Epoch, err = strconv.ParseUint(words[3], 10, 64)
	return a, err
}

// socket is where the stub of an attempt listens.
func (a stubArgs) socket() string {
	return filepath.Join(a.Journals, fmt.Sprintf("%s.%d.stub", a.VM.UUID, a.Epoch))
}

// RunStub is the stub's program: what xl starts as its transport.
func RunStub(args []string) int {
	a, err := readStubArgs(args)
	if err == nil {
		err = a.run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "xmig xl-stub: %v\n", err)
		return 1
	}
	return 0
}

func (a stubArgs) run() error {
	lock, err := journal.LockPath(a.Journals, a.VM.UUID)
	if err != nil {
		return err
	}
	path, err := journal.Path(a.Journals, a.VM.UUID)
	if err != nil {
		return err
	}
	said, err := saidIn(path)
	if err == nil && said.Has(jobs.BACK, a.Epoch) {
		err = fmt.Errorf("vm %s: epoch %d is over", a.VM.Name, a.Epoch)
	}
	if err != nil {
		return err // and xl, whose transport ends, does not even begin
	}
	return xen.Stub{Socket: a.socket(), Lock: lock, Decide: func(e xen.StubEffect, note []byte) error { return a.decide(path, e, note) }}.RunAtXL()
}

func saidIn(path string) (jobs.Journal, error) {
	entries, err := journal.Read(path)
	return promises(entries), err
}

// decide reads the journal anew, under the VM's lock, right before an effect.
func (a stubArgs) decide(path string, e xen.StubEffect, note []byte) error {
	said, err := saidIn(path)
	if err != nil {
		return err
	}
	switch e {
	case xen.PassReady, xen.Committed:
		var destination jobs.Journal
		if err := json.Unmarshal(note, &destination); err != nil {
			return fmt.Errorf("what the destination promised: %w", err)
		}
		// The guest is suspended: its whole image came through here.
		if err := jobs.MayPassReady(said, destination, a.Epoch); err != nil || e == xen.PassReady || said.Has(jobs.COMMITTING, a.Epoch) {
			return err
		}
		log, err := journal.Open(path)
		if err != nil {
			return err
		}
		_, err = log.Append(journal.Entry{Attempt: a.Attempt, Epoch: a.Epoch, Fact: string(jobs.COMMITTING)})
		return err
	case xen.Destroy:
		return jobs.MayTellDestroy(said, a.Epoch)
	case xen.Resume:
		return jobs.MayTellResume(said, a.Epoch)
	}
	return nil
}
