package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"xmig/cmd/xmig/show"
	"xmig/xen/xlsim"
)

// simguestCmd is for those who try xmig out with `xmig node --simulate`: real
// guests are made by whoever runs Xen.
type simguestCmd struct {
	Create simguestCreateCmd `cmd:"" help:"Make disks and a config, and start the guest."`
	Verify simguestVerifyCmd `cmd:"" help:"Prove that memory, disks and witness of a guest are as they must be."`
}

type simguestCreateCmd struct {
	Name      string `arg:"" help:"The guest's name."`
	Host      string `required:"" type:"path" placeholder:"DIR" help:"Directory of the simulated host."`
	UUID      string `name:"uuid" placeholder:"UUID" help:"The guest's UUID (default: a random one)."`
	RAM       size   `name:"ram" default:"64MiB" help:"Its memory."`
	Disks     []size `default:"512MiB,128MiB,256MiB" help:"Sizes of its disks: system, swap, data."`
	WriteRate rate   `default:"5MiB/s" help:"Its fsynced writes, bytes per second."`
	Seed      uint64 `default:"1" help:"Of the content of its disks."`
}

func (simguestCreateCmd) Help() string {
	return `Examples:

    xmig simguest create web01 --host /tmp/hv1`
}

func (c *simguestCreateCmd) Run(ctx context.Context) error {
	self, err := executable()
	if err != nil {
		return err
	}
	return simulatedGuest(*c).create(ctx, self)
}

type simguestVerifyCmd struct {
	Name string `arg:"" help:"The guest's name."`
	Host string `required:"" type:"path" placeholder:"DIR" help:"Directory of the simulated host that it runs on."`
}

func (simguestVerifyCmd) Help() string {
	return `Examples:

    xmig simguest verify web01 --host /tmp/hv2`
}

func (c *simguestVerifyCmd) Run(ctx context.Context, t *terminal) error {
	r, err := xlsim.Verify(ctx, c.Host, c.Name)
	if err := errors.Join(err, r.Err()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.Out, "%s: %d pages of memory and %d records are right, %s written so far\n", c.Name, r.Pages, r.Records, show.Bytes(r.Written))
	return err
}

// simulatedGuest is what to make.
type simulatedGuest simguestCreateCmd

// diskRoles name the first disks; a domU has these three more often than not.
var diskRoles = []string{"system", "swap", "data"}

func simulatedDisks(host string) string { return filepath.Join(host, "disks") }

func simulatedDisk(dir, guest string, i int) string {
	role := fmt.Sprintf("disk%d", i+1)
	if i < len(diskRoles) {
		role = diskRoles[i]
	}
	return filepath.Join(dir, guest+"-"+role+".img")
}

// create makes disks, config and autostart link, and starts the guest.
func (s simulatedGuest) create(ctx context.Context, self string) error {
	dir := simulatedDisks(s.Host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	spec := xlsim.GuestSpec{Name: s.Name, Type: "pvh", UUID: s.UUID, MemoryMiB: int(s.RAM >> 20), Bridge: "xenbr0", Rate: int64(s.WriteRate)}
	var g errgroup.Group
	g.SetLimit(2) // disks are made at the speed of one processor each
	for i, size := range s.Disks {
		path := simulatedDisk(dir, s.Name, i)
		spec.Disks = append(spec.Disks, xlsim.GuestDisk{Path: path, Vdev: "xvd" + string(rune('a'+i))})
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return xlsim.MakeDisk(path, int64(size), xlsim.DefaultMix(s.Seed*100+uint64(i)))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	configs := filepath.Join(s.Host, "etc-xen")
	cfg, err := xlsim.WriteGuestConfig(configs, spec)
	if err != nil {
		return err
	}
	link := filepath.Join(configs, "auto", filepath.Base(cfg))
	if err := os.Symlink(cfg, link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return simulatedXL(context.WithoutCancel(ctx), self, s.Host, "create", cfg)
}

// simulatedXL runs a command of the simulated toolstack.
func simulatedXL(ctx context.Context, self, host string, args ...string) error {
	cmd := exec.CommandContext(ctx, self, append([]string{"xlsim", "--host", host, "xl"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("xl %s on %s: %w: %s", strings.Join(args, " "), host, err, strings.TrimSpace(string(out)))
	}
	return nil
}
