package jobs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// VMRef names a VM for good: the UUID decides, the name is for people.
type VMRef struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

// VMState is what a host sees of a domain.
type VMState string

const (
	VMRunning   VMState = "running"
	VMPaused    VMState = "paused"
	VMSuspended VMState = "suspended"
	VMHalted    VMState = "halted" // a config file, no domain
	VMOther     VMState = "other"  // crashed, dying, shut down but not gone
)

// VM is one guest in a host's inventory.
type VM struct {
	VMRef
	State     VMState  `json:"state"`
	Type      string   `json:"type"` // pv, pvh, hvm
	Memory    int64    `json:"memory_bytes"`
	VCPUs     int      `json:"vcpus"`
	Config    string   `json:"config,omitempty"` // path of its config file
	Autostart bool     `json:"autostart"`
	Disks     []Disk   `json:"disks"`
	Bridges   []string `json:"bridges,omitempty"`
	Problem   string   `json:"problem,omitempty"` // why it cannot be managed
}

// MemoryNeed is the guest's memory and what Xen keeps for its page tables, in
// bytes: 1 MiB per vCPU and 8 bytes per page, as xl reckons.
func (v VM) MemoryNeed() int64 {
	return v.Memory + int64(v.VCPUs)<<20 + v.Memory/4096*8
}

// Disk is one virtual block device of a guest.
type Disk struct {
	Name      string `json:"name"` // vdev: xvda
	Path      string `json:"path"`
	Size      int64  `json:"size_bytes"`
	Allocated int64  `json:"allocated_bytes"`
	Sector    int    `json:"sector_bytes,omitempty"` // logical sector
	Kind      string `json:"kind"`                   // file, block, …
	ReadOnly  bool   `json:"read_only"`
	Proof     string `json:"proof,omitempty"` // belongs to one disk in the world; see storage.Alias
	Alias     string `json:"alias,omitempty"` // the same where two hosts see one disk, or a clone of it
}

// Pool is a place where volumes can be made.
type Pool struct {
	Name string `json:"name"`
	Dir  string `json:"dir,omitempty"`  // the directory its volumes' paths begin with
	Role string `json:"role,omitempty"` // pools of one role stand for each other, wherever they lie
	Free int64  `json:"free_bytes"`
	Size int64  `json:"size_bytes"`
}

// Shadow is a disk of a VM that moved away, kept as the seed of its way back.
type Shadow struct {
	VM   string `json:"vm"`
	Disk string `json:"disk"`
	Size int64  `json:"size_bytes"`
}

// Host is what a node tells of itself, again and again.
type Host struct {
	Node       string    `json:"node"`
	Instance   string    `json:"instance"` // new at each start of the worker
	Home       string    `json:"home"`     // id of its state directory: the same worker, started again
	Hostname   string    `json:"hostname"`
	Simulated  bool      `json:"simulated"` // its xl is the simulated one
	Version    string    `json:"version"`
	Xen        string    `json:"xen"`
	VirtCaps   []string  `json:"virt_caps,omitempty"`
	HWCaps     string    `json:"hw_caps,omitempty"`
	CPUs       int       `json:"cpus"`
	Memory     int64     `json:"memory_bytes"`
	FreeMemory int64     `json:"free_memory_bytes"` // what is held for jobs taken off
	Bridges    []string  `json:"bridges,omitempty"`
	Pools      []Pool    `json:"pools,omitempty"`
	VMs        []VM      `json:"vms,omitempty"`
	Shadows    []Shadow  `json:"shadows,omitempty"`
	Tags       []string  `json:"tags,omitempty"`    // what its operator says of it; rules act on tagged hosts only
	Sends      *Sending  `json:"sends,omitempty"`   // how fast it may send; nil: it does not tell
	Problem    string    `json:"problem,omitempty"` // why the inventory is not whole
	Started    time.Time `json:"started"`
	Seen       time.Time `json:"seen"`
}

// Find returns the VM that name means on this host: its UUID or its name.
func (h Host) Find(name string) (VM, bool) {
	for _, v := range h.VMs {
		if v.UUID == name || v.Name == name {
			return v, true
		}
	}
	return VM{}, false
}

// MissingFeatures are the bits of have's words that the words of here lack, ""
// if there are none or the two cannot be compared.
func MissingFeatures(have, here string) string {
	if have == here {
		return ""
	}
	a, b := strings.Split(have, ":"), strings.Split(here, ":")
	if len(a) != len(b) {
		return ""
	}
	var lacks []string
	some := false
	for i := range a {
		x, err1 := strconv.ParseUint(a[i], 16, 32)
		y, err2 := strconv.ParseUint(b[i], 16, 32)
		if err1 != nil || err2 != nil {
			return ""
		}
		some = some || x&^y != 0
		lacks = append(lacks, fmt.Sprintf("%08x", x&^y))
	}
	if !some {
		return ""
	}
	return strings.Join(lacks, ":")
}
