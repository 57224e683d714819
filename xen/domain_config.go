package xen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// DomainConfig is what xl knows of a domain that lives, hotplugged devices
// included.
type DomainConfig struct {
	Type  string // pv, pvh or hvm
	Disks []DomainDisk
	NICs  []DomainNIC
	On    Endings

	PCI, USB  int  // devices of the host that are passed through
	VTPM      int  // vTPMs, each served by a domain of its own
	NoMigrate bool // the config says nomigrate
	VNUMA     bool // it has virtual NUMA nodes
}

// DomainDisk is a disk of a living domain.
type DomainDisk struct {
	Vdev     string // xvda
	Path     string // empty: a drive without a medium
	Format   string // raw, qcow2, ..., empty where xl does not say
	Backend  string // phy, qdisk, tap, empty where xl chooses
	ReadOnly bool
}

// EarlyOpen: its backend is a program that opens it when the domain is made,
// and keeps what it read.
func (d DomainDisk) EarlyOpen() bool { return d.Backend == "qdisk" || d.Backend == "tap" }

// DomainNIC is a network card of a living domain.
type DomainNIC struct {
	MAC    string
	Bridge string
}

// storedConfig is the part of libxl's JSON that is read here. Members that have
// their default value are left out by libxl: no readwrite is read-only.
type storedConfig struct {
	CInfo struct {
		Type string `json:"type"`
		Name string `json:"name"`
		UUID string `json:"uuid"`
	} `json:"c_info"`
	BInfo map[string]json.RawMessage `json:"b_info"`
	Disks []struct {
		Path      string `json:"pdev_path"`
		Vdev      string `json:"vdev"`
		Format    string `json:"format"`
		Backend   string `json:"backend"`
		ReadWrite int    `json:"readwrite"`
	} `json:"disks"`
	NICs []struct {
		MAC    string `json:"mac"`
		Bridge string `json:"bridge"`
	} `json:"nics"`
	PCIDevs    []json.RawMessage `json:"pcidevs"`
	USBDevs    []json.RawMessage `json:"usbdevs"`
	VTPMs      []json.RawMessage `json:"vtpms"`
	OnPoweroff string            `json:"on_poweroff"`
	OnReboot   string            `json:"on_reboot"`
	OnWatchdog string            `json:"on_watchdog"`
	OnCrash    string            `json:"on_crash"`
}

// Config asks for what a domain consists of now.
func (x XL) Config(ctx context.Context, id int) (DomainConfig, error) {
	out, _, err := x.ask(ctx, x.xl("list", "-l", strconv.Itoa(id)))
	if err != nil {
		return DomainConfig{}, err
	}
	return parseDomainConfig([]byte(out), id)
}

// Configs asks for what all domains consist of now, in one question: on a busy
// host each costs a second.
func (x XL) Configs(ctx context.Context) (map[int]DomainConfig, error) {
	out, _, err := x.ask(ctx, x.xl("list", "-l"))
	if err != nil {
		return nil, err
	}
	return parseDomainConfigs([]byte(out))
}

func parseDomainConfig(text []byte, id int) (DomainConfig, error) {
	all, err := parseDomainConfigs(text)
	if err != nil {
		return DomainConfig{}, err
	}
	c, ok := all[id]
	if !ok {
		return DomainConfig{}, fmt.Errorf("xl list -l: domain %d: %w", id, ErrNoDomain)
	}
	return c, nil
}

func parseDomainConfigs(text []byte) (map[int]DomainConfig, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("(")) {
		return nil, errors.New(`xl list -l: answers in SXP; take output_format="sxp" out of xl.conf`)
	}
	var all []struct {
		DomID  int          `json:"domid"`
		Config storedConfig `json:"config"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("xl list -l: %w", err)
	}
	configs := make(map[int]DomainConfig, len(all))
	for _, d := range all {
		configs[d.DomID] = d.Config.domain()
	}
	return configs, nil
}

func (s storedConfig) domain() DomainConfig {
	c := DomainConfig{Type: s.CInfo.Type, PCI: len(s.PCIDevs), USB: len(s.USBDevs), VTPM: len(s.VTPMs)}
	// libxl writes a defbool as the word True, and leaves out the default.
	c.NoMigrate = string(s.BInfo["disable_migrate"]) == `"True"`
	var nodes []json.RawMessage
	c.VNUMA = json.Unmarshal(s.BInfo["vnuma_nodes"], &nodes) == nil && len(nodes) > 0
	for _, kind := range []string{"pv", "pvh", "hvm"} {
		if _, ok := s.BInfo["type."+kind]; ok && c.Type == "" {
			c.Type = kind
		}
	}
	for ending, action := range map[Ending]string{Poweroff: s.OnPoweroff, Reboot: s.OnReboot, Watchdog: s.OnWatchdog, Crash: s.OnCrash} {
		if action == "" {
			continue // destroy, which libxl leaves out
		}
		if c.On == nil {
			c.On = Endings{}
		}
		c.On[ending] = action
	}
	for _, d := range s.Disks {
		c.Disks = append(c.Disks, DomainDisk{Vdev: d.Vdev, Path: d.Path, Format: d.Format, Backend: d.Backend, ReadOnly: d.ReadWrite == 0})
	}
	for _, n := range s.NICs {
		c.NICs = append(c.NICs, DomainNIC{MAC: n.MAC, Bridge: n.Bridge})
	}
	return c
}

// storedIdentity reads the config in the head of an image.
func storedIdentity(config []byte) (identity, error) {
	var s storedConfig
	if err := json.Unmarshal(config, &s); err != nil {
		return identity{}, fmt.Errorf("its config: %w", err)
	}
	return identity{name: s.CInfo.Name, uuid: s.CInfo.UUID}, nil
}
