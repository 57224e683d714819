package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"xmig/jobs/coordinator"
)

// hooks are a site's executables around drains, named after their phase.
type hooks struct {
	dir string
	log zerolog.Logger
}

const (
	// hookTail is how much of what a hook says is told when it fails.
	hookTail = 400
	// hookPipes is how long children of a hook may keep its pipes open after it ended.
	hookPipes = time.Second
)

// Run runs the hook of a phase, with the host's mark as JSON on its standard
// input. A hook that is not there has nothing against it.
func (h hooks) Run(ctx context.Context, p coordinator.Phase, m coordinator.Mark) error {
	path := filepath.Join(h.dir, string(p))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	in, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), "XMIG_PHASE="+string(p), "XMIG_HOST="+m.Node, "XMIG_BY="+m.Drain.By, "XMIG_REASON="+m.Drain.Reason)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &out
	cmd.WaitDelay = hookPipes
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	said := strings.TrimSpace(out.String())
	said = said[max(0, len(said)-hookTail):]
	if err != nil {
		return fmt.Errorf("hook %s: %w: %s", path, err, said)
	}
	h.log.Info().Str("hook", path).Str("host", m.Node).Msg("hook ran")
	return nil
}
