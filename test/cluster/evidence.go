package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"xmig/node/storage"
	"xmig/xen/xlsim"
)

// verifyTime bounds one proof: reading a small guest's memory and disks.
const verifyTime = 30 * time.Second

// Proven makes sure, by what is on all hosts, that the guest is on host at and
// nowhere else, whole, and that nothing half-made is left. Whatever is left
// all the same must be named by `xmig job show` of the job (empty: there was
// none). Hosts may clean up behind a job's end, so it looks until all is well.
func (c *Cluster) Proven(g *Guest, at *Host, job string) {
	c.t.Helper()
	c.Eventually(func() error { return c.judge(g, at, job) })
	if err := c.whole(g, at); err != nil {
		c.t.Error(err)
	}
}

// whole proves by the guest's own memory that no page of it and no record on
// its disks is lost or old.
func (c *Cluster) whole(g *Guest, at *Host) error {
	if g.State == Halted {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), verifyTime)
	defer cancel()
	r, err := xlsim.Verify(ctx, at.Dir, g.Name)
	err = errors.Join(err, r.Err())
	if err == nil && r.Records == 0 && g.State == Running {
		err = errors.New("it never wrote a record, so nothing is proven")
	}
	if err != nil {
		return fmt.Errorf("guest %s on %s: memory and disks: %w; see %s", g.Name, at.Name, err, filepath.Join(at.Dir, "log"))
	}
	return nil
}

// judge gathers everything that is not as it must be.
func (c *Cluster) judge(g *Guest, at *Host, job string) error {
	errs := []error{c.oneCopy(g, at), c.oneOwner(g, at)}
	named := ""
	if job != "" {
		named = c.Command("job", "show", job).Stdout
	}
	for _, h := range c.Hosts {
		errs = append(errs, h.oneConfig(g, h == at))
		left, err := h.leftovers(g, h == at)
		errs = append(errs, err)
		for _, l := range left {
			if !strings.Contains(named, l) {
				errs = append(errs, fmt.Errorf("%s: left over, and `xmig job show` does not name it: %s; see %s", h.Name, l, h.Node.Log))
			}
		}
	}
	return errors.Join(errs...)
}

// oneCopy: the witness never saw two, and one host has it, in the state that it was in.
func (c *Cluster) oneCopy(g *Guest, at *Host) error {
	bad, err := xlsim.Violations(c.Net, g.UUID)
	errs := []error{err}
	for _, b := range bad {
		errs = append(errs, fmt.Errorf("the witness saw: %s", b))
	}
	for _, h := range c.Hosts {
		domains, err := xlsim.Domains(h.Dir)
		errs = append(errs, err)
		var have, want []string
		for _, d := range domains {
			if d.UUID == g.UUID || d.Name == g.Name {
				have = append(have, d.Name+" "+stateOf(d))
			}
		}
		if h == at && g.State != Halted {
			want = append(want, g.Name+" "+string(g.State))
		}
		if !slices.Equal(have, want) {
			errs = append(errs, fmt.Errorf("%s has the domains %q, want %q; see %s", h.Name, have, want, h.Node.Log))
		}
	}
	return errors.Join(errs...)
}

// Runs tells whether the guest runs on a host, whatever anybody says of it.
func (c *Cluster) Runs(g *Guest, at *Host) error {
	domains, err := xlsim.Domains(at.Dir)
	for _, d := range domains {
		if d.UUID == g.UUID && d.Name == g.Name && stateOf(d) == string(Running) {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("guest %s does not run on %s, which has %+v; see %s", g.Name, at.Name, domains, at.Node.Log))
}

func stateOf(d xlsim.Domain) string {
	switch {
	case strings.HasPrefix(d.State[3:], "s"):
		return "suspended or shut down"
	case d.State[2] == 'p':
		return string(Paused)
	}
	return string(Running)
}

// oneOwner: the owner key, where there is one, says so too, and no job claims the VM.
func (c *Cluster) oneOwner(g *Guest, at *Host) error {
	ctx, cancel := c.ask()
	defer cancel()
	all, err := c.Bus().Owners().List(ctx)
	for _, key := range all {
		if key.VM == g.UUID && (key.Node != at.Name || key.Claim != "") {
			return fmt.Errorf("owner key of %s: %s, epoch %d, claim %q; want %s and no claim; see %s", g.Name, key.Node, key.Epoch, key.Claim, at.Name, c.Server.Log)
		}
	}
	return err
}

// oneConfig: config and autostart link are at one place; a parked config starts nothing.
func (h *Host) oneConfig(g *Guest, here bool) error {
	var errs []error
	for _, path := range []string{g.Config(h), g.Autostart(h)} {
		_, err := os.Stat(path) // a link must lead somewhere
		switch {
		case here && err != nil:
			errs = append(errs, fmt.Errorf("%s: %w; see %s", h.Name, err, h.Node.Log))
		case !here && !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s: %s is there and must not be (%v); see %s", h.Name, path, err, h.Node.Log))
		}
	}
	return errors.Join(errs...)
}

// leftovers lists what the host has of the guest beside what belongs there.
func (h *Host) leftovers(g *Guest, here bool) ([]string, error) {
	var left []string
	kept, err := h.recorded(g, &left)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"arrivals", "staged"} {
		files, err := os.ReadDir(filepath.Join(h.State, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(h.State, dir, f.Name()))
			if err == nil && strings.Contains(string(text), g.UUID) {
				left = append(left, filepath.Join(dir, f.Name()))
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(h.disks(), "*"))
	if err != nil {
		return nil, err
	}
	for i, size := range g.Disks {
		path := g.Disk(h, i)
		info, err := os.Stat(path)
		if here && (err != nil || info.Size() < size) {
			return nil, fmt.Errorf("%s: disk %s of %d bytes: %v; see %s", h.Name, path, size, err, h.Node.Log)
		}
		for _, f := range files {
			if strings.HasPrefix(f, path) && !(here && f == path) && !slices.Contains(kept, f) {
				left = append(left, f)
			}
		}
	}
	drafts, err := filepath.Glob(filepath.Join(h.configs(), ".*"))
	if err != nil {
		return nil, err
	}
	left = append(left, drafts...)
	commands, err := h.commands()
	return append(left, commands...), err
}

// recorded reads the registry of volumes: shadows are kept on purpose, what a
// job made or adopted and every hold of space is left over.
func (h *Host) recorded(g *Guest, left *[]string) (shadows []string, err error) {
	volumes, err := storage.New(storage.Config{StateDir: filepath.Join(h.State, "volumes")})
	if err != nil {
		return nil, err
	}
	ctx, cancel := h.c.ask()
	defer cancel()
	records, err := volumes.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		switch {
		case r.VM != g.UUID:
		case r.Role == storage.RoleShadow && r.Pending == "":
			shadows = append(shadows, storage.ShadowPath(r.Place))
		default:
			*left = append(*left, fmt.Sprintf("volume %s (%s, %s)", r.Place, r.Role, r.Pending))
		}
	}
	holders, err := volumes.Holders(ctx)
	for _, job := range holders {
		*left = append(*left, "space held for job "+job)
	}
	return shadows, err
}

// commands lists what runs of the toolstack beside guests: none should.
func (h *Host) commands() ([]string, error) {
	all, err := running(h.Dir)
	if err != nil {
		return nil, err
	}
	var left []string
	for pid, line := range all {
		changes := strings.HasPrefix(line, "hold ") || strings.HasPrefix(line, "xl-stub ") || strings.Contains(line, " xl save ") ||
			strings.Contains(line, " xl restore ") || strings.Contains(line, " xl migrate")
		if changes {
			left = append(left, fmt.Sprintf("process %d: xmig %s", pid, line))
		}
	}
	return left, nil
}
