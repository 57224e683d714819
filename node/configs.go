package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"xmig/jobs"
	"xmig/xen"
)

// The way of a VM's config file: staged at the destination before anything is
// stopped, installed after the guest runs there, parked at the source last.

func (n *Node) stagedPath(job jobs.Job) string {
	return filepath.Join(n.cfg.StateDir, "staged", job.ID+".cfg")
}

// stage writes the config as it will be here: disks and bridges mapped, every
// other byte as it was.
func (n *Node) stage(job jobs.Job) error {
	if len(job.Plan.Guest.ConfigText) == 0 {
		return nil
	}
	text, err := mapConfig(job.Plan.Guest.ConfigText, job)
	if err != nil {
		return err
	}
	return writeDurably(n.stagedPath(job), text, 0o600)
}

// mapConfig rewrites disks and bridges of a config file for the destination.
func mapConfig(text []byte, job jobs.Job) ([]byte, error) {
	cfg, err := xen.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	disks, _ := cfg.List("disk")
	for i, spec := range disks {
		d, err := xen.ParseDisk(spec)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i+1, err)
		}
		if to := mapped(job, d.Target); to != d.Target {
			if err := cfg.SetListItem("disk", i, d.WithTarget(to)); err != nil {
				return nil, err
			}
		}
	}
	vifs, _ := cfg.List("vif")
	for i, spec := range vifs {
		v, err := xen.ParseVIF(spec)
		if err != nil {
			return nil, fmt.Errorf("vif %d: %w", i+1, err)
		}
		if to := job.Spec.Map.Bridge(v.Bridge); to != v.Bridge {
			if err := cfg.SetListItem("vif", i, v.WithBridge(to)); err != nil {
				return nil, err
			}
		}
	}
	return cfg.Bytes(), nil
}

// mapped is a path at the destination. One that is no disk of the guest now,
// the image of an ejected CD for example, goes by the mapping alone.
func mapped(job jobs.Job, path string) string {
	for _, d := range job.Plan.Disks {
		if d.From == path {
			return d.To
		}
	}
	if path == "" {
		return ""
	}
	return job.Spec.Map.Disk(path)
}

// mapDomain rewrites disks and bridges in the JSON of a saved domain. Without
// anything to map the bytes stay as they are.
func mapDomain(text []byte, job jobs.Job) ([]byte, error) {
	if len(job.Spec.Map.Disks) == 0 && len(job.Spec.Map.Bridges) == 0 {
		return text, nil
	}
	var cfg map[string]any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&cfg); err != nil {
		return nil, fmt.Errorf("config in the saved domain: %w", err)
	}
	each(cfg["disks"], "pdev_path", func(p string) string { return mapped(job, p) })
	each(cfg["nics"], "bridge", job.Spec.Map.Bridge)
	return json.Marshal(cfg)
}

func each(list any, key string, change func(string) string) {
	items, _ := list.([]any)
	for _, it := range items {
		if m, ok := it.(map[string]any); ok {
			if s, ok := m[key].(string); ok {
				m[key] = change(s)
			}
		}
	}
}

// install puts the staged config and the autostart link in place. The staged
// file goes last: it says that there is something left to do.
func (n *Node) install(job jobs.Job) error {
	if job.Plan.Config == "" {
		return nil
	}
	text, err := os.ReadFile(n.stagedPath(job))
	if errors.Is(err, fs.ErrNotExist) { // installed before a crash
		_, err = os.Stat(job.Plan.Config)
		return err
	}
	if err != nil {
		return err
	}
	if err := n.setAside(job, text); err != nil {
		return err
	}
	if err := writeDurably(job.Plan.Config, text, configMode(job)); err != nil {
		return err
	}
	if err := n.installBootFiles(job); err != nil {
		return err
	}
	if link := job.Plan.Guest.AutostartLink; link != "" {
		if err := n.link(filepath.Base(link), n.autostartText(job)); err != nil {
			return err
		}
	}
	return removeIfThere(n.stagedPath(job))
}

// setAside keeps a config that came to be at the place since the check: it is
// not ours to overwrite, and the guest runs, so that there is no way back.
func (n *Node) setAside(job jobs.Job, text []byte) error {
	path := job.Plan.Config
	have, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(have, text) {
		return nil
	}
	if err != nil {
		return err
	}
	aside := path + "." + job.ID + ".old"
	n.log.Warn().Str("job", job.ID).Str("vm", job.VM.Name).Str("config", path).Str("kept_as", aside).Msg("another config was put there meanwhile")
	return os.Rename(path, aside)
}

// configMode is the mode that the config had: it may hold passwords.
func configMode(job jobs.Job) os.FileMode {
	if m := os.FileMode(job.Plan.Guest.ConfigMode).Perm(); m != 0 {
		return m
	}
	return 0o600
}

// autostartText is what the link says here: as it was said there, unless that
// leads elsewhere because the config directory is another one.
func (n *Node) autostartText(job jobs.Job) string {
	text := job.Plan.Guest.AutostartText
	if n.leadsTo(text) == filepath.Clean(job.Plan.Config) {
		return text
	}
	return job.Plan.Config
}

// leadsTo is the path that an autostart link's text means.
func (n *Node) leadsTo(text string) string {
	if filepath.IsAbs(text) {
		return filepath.Clean(text)
	}
	return filepath.Join(n.cfg.AutostartDir, text)
}

func (n *Node) link(name, text string) error {
	path := filepath.Join(n.cfg.AutostartDir, name)
	if have, err := os.Readlink(path); err == nil && n.leadsTo(have) == n.leadsTo(text) {
		return nil
	}
	if err := os.MkdirAll(n.cfg.AutostartDir, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(text, path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("autostart link %s is there and leads elsewhere: remove it or give it another name, this goes on by itself then", path)
	} else if err != nil {
		return fmt.Errorf("autostart link: %w", err)
	}
	return syncDir(n.cfg.AutostartDir)
}

// autostart is a link that was taken away, as it was.
type autostart struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// disarm takes the autostart link away before the source commits: from then on
// a reboot of this host must not start a second copy.
func (n *Node) disarm(h *held, job jobs.Job) error {
	path := job.Plan.Guest.AutostartLink
	if path == "" {
		return nil
	}
	if err := h.say(job, factDisarmed, autostart{Path: path, Text: job.Plan.Guest.AutostartText}); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return jobs.RetryLater(jobs.CodeStorage, "take the autostart link of vm %s away on %s: %w", job.VM.Name, h.node, err)
	}
	return syncDir(filepath.Dir(path))
}

// rearm puts the autostart link back after the source went back.
func (n *Node) rearm(h *held, job jobs.Job) error {
	var was autostart
	if there, err := h.told(factDisarmed, job.Epoch, &was); !there || err != nil {
		return err
	}
	if _, err := os.Lstat(was.Path); err == nil {
		return nil
	}
	return n.link(filepath.Base(was.Path), was.Text)
}

// parkedSuffix marks a config whose VM moved away; nothing starts it.
const parkedSuffix = ".migrated-to-"

// park takes the source's config out of the way, kept for people to read. The
// newest one is kept.
func (n *Node) park(job jobs.Job) error {
	path := job.Plan.Guest.Config
	if path == "" {
		return nil
	}
	if text, err := os.ReadFile(path); err == nil && len(job.Plan.Guest.ConfigText) > 0 && !bytes.Equal(text, job.Plan.Guest.ConfigText) {
		n.log.Warn().Str("job", job.ID).Str("vm", job.VM.Name).Str("config", path).Str("kept_as", path+parkedSuffix+job.Destination).
			Msg("the config was changed while the VM moved; the destination has it as it was before")
	}
	err := os.Rename(path, path+parkedSuffix+job.Destination)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return jobs.RetryLater(jobs.CodeStorage, "park the config of vm %s on %s: %w", job.VM.Name, n.cfg.Name, err)
	}
	return syncDir(filepath.Dir(path))
}
