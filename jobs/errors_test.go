package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestClassAndCode(t *testing.T) {
	blocked := &BlockedError{VM: "web01", Blockers: []Blocker{{Host: "hv2", Code: "space", Text: "full"}}}
	for _, c := range []struct {
		name  string
		err   error
		class Class
		code  Code
	}{
		{"nobody classed it", io.ErrUnexpectedEOF, Retry, CodeInternal},
		{"later", RetryLater(CodeLane, "lane to hv2: %w", io.EOF), Retry, CodeLane},
		{"final", Failed(CodeStorage, "disk xvda: no space"), Final, CodeStorage},
		{"lost", NotOurs("job J is driven by hv3"), Lost, CodeConflict},
		{"wrapped", fmt.Errorf("reserve: %w", Failed(CodeBlocked, "no")), Final, CodeBlocked},
		{"the outer word counts", RetryLater(CodeAway, "hv2: %w", Failed(CodeStorage, "no")), Retry, CodeAway},
		{"joined", errors.Join(io.EOF, Failed(CodeCorrupt, "no")), Final, CodeCorrupt},
		{"blocked", fmt.Errorf("check: %w", blocked), Final, CodeBlocked},
		{"blocked, by a host that calls it storage", &Error{Class: Retry, Code: CodeStorage, Err: blocked}, Retry, CodeBlocked},
		{"a class without a code", &Error{Class: Lost, Err: io.EOF}, Lost, CodeInternal},
		{"a code without a class", &Error{Code: CodeUsage, Err: io.EOF}, Retry, CodeUsage},
		{"not found", fmt.Errorf("job: %w", ErrNotFound), Retry, CodeNotFound},
		{"conflict", fmt.Errorf("record: %w", ErrConflict), Retry, CodeConflict},
		{"away", fmt.Errorf("record: %w", ErrAway), Retry, CodeAway},
		{"a code given to a store's error wins", Failed(CodeInternal, "x: %w", ErrNotFound), Final, CodeInternal},
		{"a rule", &RuleError{"R5", "BACK", "why", 7}, Retry, CodeInternal},
		{"cancelled", fmt.Errorf("%w by ann", ErrCancelled), Final, CodeCancelled},
		{"cancelled, taken for an xl that failed", RetryLater(CodeToolstack, "xl list: %w by ann", ErrCancelled), Final, CodeToolstack},
		{"cancelled by a user of a job that another worker drives", NotOurs("%w by ann", ErrCancelled), Lost, CodeConflict},
		{"the worker stops", fmt.Errorf("seed: %w", ErrShutdown), Retry, CodeInternal},
		{"the end of a context", context.DeadlineExceeded, Retry, CodeInternal},
	} {
		if got := ClassOf(c.err); got != c.class {
			t.Errorf("%s: class %s, want %s", c.name, got, c.class)
		}
		if got := CodeOf(c.err); got != c.code {
			t.Errorf("%s: code %s, want %s", c.name, got, c.code)
		}
	}
}

// TestErrorsSayWhoAndWhatNext: exact words, for people read them.
func TestErrorsSayWhoAndWhatNext(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{RetryLater(CodeAway, "hv2: %w", ErrAway), "hv2: no answer"},
		{Failed(CodeConflict, "vm web01: %w", ErrConflict), "vm web01: changed by somebody else"},
		{&RuleError{"R5", "BACK", "the copy was given up", 7}, "rule R5 forbids BACK in epoch 7: the copy was given up"},
		{&TransitionError{Succeeded, Running}, "no way from succeeded to running"},
		{&BlockedError{"web01", []Blocker{
			{Host: "hv2", Disk: "xvda", Code: "space", Text: "volume group vg0 has 12 GiB free, needs 40 GiB", Next: "free 28 GiB, or map it elsewhere"},
			{Host: "hv1", Code: "mode", Text: "no live mode"},
		}}, "vm web01 cannot move: hv2: disk xvda: volume group vg0 has 12 GiB free, needs 40 GiB (free 28 GiB, or map it elsewhere); hv1: no live mode"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("got  %s\nwant %s", c.err, c.want)
		}
	}
}

// TestWrappingKeepsClassAndCode: however deep, the innermost word that was
// given is heard until an outer one is given.
func TestWrappingKeepsClassAndCode(t *testing.T) {
	makers := map[Class]func(Code, string, ...any) error{Retry: RetryLater, Final: Failed}
	rapid.Check(t, func(t *rapid.T) {
		class := rapid.SampledFrom([]Class{Retry, Final}).Draw(t, "class")
		code := rapid.SampledFrom([]Code{CodeUsage, CodeLane, CodeStorage, CodeAway}).Draw(t, "code")
		root := errors.New(rapid.StringN(0, 20, -1).Draw(t, "text"))
		err := makers[class](code, "%w", root)
		for range rapid.IntRange(0, 6).Draw(t, "depth") {
			if rapid.Bool().Draw(t, "join") {
				err = errors.Join(err, io.EOF)
			} else {
				err = fmt.Errorf("step: %w", err)
			}
		}
		if ClassOf(err) != class || CodeOf(err) != code || !errors.Is(err, root) || !strings.Contains(err.Error(), root.Error()) {
			t.Fatalf("%v: class %s, code %s, want %s, %s", err, ClassOf(err), CodeOf(err), class, code)
		}
	})
}
