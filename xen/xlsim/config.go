package xlsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"xmig/xen"
)

// domainConfig is libxl's own form of a domain's config: in `xl list -l` and in
// the head of a saved domain. Members that have their default are left out, in
// the order and with the odd ones of a real 4.17.
type domainConfig struct {
	CInfo       createInfo   `json:"c_info"`
	BInfo       buildInfo    `json:"b_info"`
	Disks       []diskConfig `json:"disks,omitempty"`
	Nics        []nicConfig  `json:"nics,omitempty"`
	OnPoweroff  string       `json:"on_poweroff,omitempty"`
	OnReboot    string       `json:"on_reboot,omitempty"`
	OnWatchdog  string       `json:"on_watchdog,omitempty"`
	OnCrash     string       `json:"on_crash,omitempty"`
	OnSoftReset string       `json:"on_soft_reset,omitempty"`
}

type createInfo struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	DomID uint32 `json:"domid,omitempty"` // 4294967295: not set; libxl prints it once a domain lives
	UUID  string `json:"uuid"`
	Run   string `json:"run_hotplug_scripts,omitempty"`
}

type empty struct{}

type buildInfo struct {
	MaxVCPUs   int          `json:"max_vcpus"`
	AvailVCPUs []int        `json:"avail_vcpus"`
	MaxKB      int64        `json:"max_memkb"`
	TargetKB   int64        `json:"target_memkb"`
	VideoKB    *int64       `json:"video_memkb,omitempty"`
	NoMigrate  string       `json:"disable_migrate,omitempty"`
	Sched      schedParams  `json:"sched_params"`
	Claim      string       `json:"claim_mode,omitempty"`
	Bootloader string       `json:"bootloader,omitempty"`
	Kernel     string       `json:"kernel,omitempty"`
	Cmdline    string       `json:"cmdline,omitempty"`
	Ramdisk    string       `json:"ramdisk,omitempty"`
	PV         *empty       `json:"type.pv,omitempty"`
	PVH        *empty       `json:"type.pvh,omitempty"`
	ArchARM    empty        `json:"arch_arm"`
	ArchX86    archSettings `json:"arch_x86"`
}

type schedParams struct {
	Sched  string `json:"sched,omitempty"`
	Weight *int   `json:"weight,omitempty"`
	Cap    *int   `json:"cap,omitempty"`
}

type archSettings struct {
	MSRRelaxed string `json:"msr_relaxed,omitempty"`
}

type diskConfig struct {
	Path      string `json:"pdev_path"`
	Vdev      string `json:"vdev"`
	Backend   string `json:"backend,omitempty"`
	Format    string `json:"format,omitempty"`
	Script    string `json:"script,omitempty"`
	Removable int    `json:"removable,omitempty"`
	ReadWrite int    `json:"readwrite,omitempty"`
	CDROM     int    `json:"is_cdrom,omitempty"`
	Colo      string `json:"colo_restore_enable,omitempty"`
}

type nicConfig struct {
	DevID   int    `json:"devid"`
	MAC     string `json:"mac,omitempty"`
	Bridge  string `json:"bridge,omitempty"`
	Script  string `json:"script,omitempty"`
	NICType string `json:"nictype,omitempty"`
}

// unsetDomID is libxl's "no domid asked for".
const unsetDomID = 1<<32 - 1

// parseConfig reads a config file as `xl create` does.
func parseConfig(data []byte) (domainConfig, error) {
	var c domainConfig
	text, err := xen.ParseConfig(data)
	if err != nil {
		return c, err
	}
	str := func(key string) string { s, _ := text.String(key); return s }
	num := func(key string, otherwise int64) int64 {
		if n, ok := text.Int(key); ok {
			return n
		}
		return otherwise
	}
	c.CInfo = createInfo{Type: guestType(str("type"), str("builder")), Name: str("name"), UUID: str("uuid"), Run: "True"}
	if c.CInfo.Name == "" {
		return c, errNoName
	}
	if err := c.settleUUID(); err != nil {
		return c, err
	}
	if c.CInfo.Type != "pv" && c.CInfo.Type != "pvh" {
		return c, fmt.Errorf("type %q: this simulation knows pv and pvh only", c.CInfo.Type)
	}
	memory := num("memory", 32)
	vcpus := num("vcpus", 1)
	c.BInfo = buildInfo{
		MaxVCPUs: int(num("maxvcpus", vcpus)), MaxKB: num("maxmem", memory) << 10, TargetKB: memory << 10, Claim: "True",
		Bootloader: str("bootloader"), Kernel: str("kernel"), Cmdline: cmdline(str), Ramdisk: str("ramdisk"),
	}
	if num("nomigrate", 0) != 0 {
		c.BInfo.NoMigrate = "True"
	}
	for i := range int(vcpus) {
		c.BInfo.AvailVCPUs = append(c.BInfo.AvailVCPUs, i)
	}
	if c.CInfo.Type == "pv" {
		c.BInfo.PV = &empty{}
	} else {
		c.BInfo.PVH = &empty{}
	}
	c.OnPoweroff, c.OnReboot = onEvent(str("on_poweroff"), ""), onEvent(str("on_reboot"), "restart")
	c.OnWatchdog, c.OnCrash, c.OnSoftReset = onEvent(str("on_watchdog"), ""), onEvent(str("on_crash"), ""), "soft_reset"
	disks, _ := text.List("disk")
	vifs, _ := text.List("vif")
	err = errors.Join(c.addDisks(disks), c.addNics(vifs))
	return c, err
}

// settleUUID gives the domain one, in the usual form.
func (c *domainConfig) settleUUID() error {
	if c.CInfo.UUID == "" {
		c.CInfo.UUID = newUUID()
	}
	u, err := parseUUID(c.CInfo.UUID)
	c.CInfo.UUID = formatUUID(u)
	return err
}

var errNoName = errors.New("Domain name must be specified.") //lint:ignore ST1005 xl's own words

func guestType(kind, builder string) string {
	switch {
	case kind != "":
		return kind
	case builder == "hvm":
		return "hvm"
	}
	return "pv"
}

func cmdline(str func(string) string) string {
	if whole := str("cmdline"); whole != "" {
		return whole
	}
	var parts []string
	if root := str("root"); root != "" {
		parts = append(parts, "root="+root)
	}
	if extra := str("extra"); extra != "" {
		parts = append(parts, extra)
	}
	return strings.Join(parts, " ")
}

// onEvent: "destroy" is the default and left out.
func onEvent(s, otherwise string) string {
	switch s {
	case "":
		return otherwise
	case "destroy":
		return ""
	}
	return strings.ReplaceAll(s, "-", "_")
}

func (c *domainConfig) addDisks(specs []string) error {
	for _, spec := range specs {
		d, err := parseDisk(spec)
		if err != nil {
			return err
		}
		c.Disks = append(c.Disks, d)
	}
	return nil
}

func (c *domainConfig) addNics(specs []string) error {
	for i, spec := range specs {
		n := nicConfig{DevID: i, Bridge: "xenbr0", MAC: newMAC()}
		for item := range strings.SplitSeq(spec, ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(item), "=")
			switch key {
			case "mac":
				n.MAC = value
			case "bridge":
				n.Bridge = value
			case "script":
				n.Script = value
			}
		}
		c.Nics = append(c.Nics, n)
	}
	return nil
}

// parseStored reads the JSON in the head of a saved domain.
func parseStored(data []byte) (domainConfig, error) {
	var c domainConfig
	if err := json.Unmarshal(bytes.TrimRight(data, "\x00"), &c); err != nil {
		return c, err
	}
	if c.CInfo.Name == "" || c.BInfo.MaxKB == 0 {
		return c, errors.New("no name or no memory in it")
	}
	return c, c.settleUUID()
}

// live adds what libxl prints of a domain that exists.
func (c domainConfig) live() domainConfig {
	weight, limit, video := 256, 0, int64(0)
	c.CInfo.DomID = unsetDomID
	c.BInfo.VideoKB = &video
	c.BInfo.Sched = schedParams{Sched: "credit2", Weight: &weight, Cap: &limit}
	c.BInfo.ArchX86.MSRRelaxed = "False"
	c.Disks, c.Nics = slices.Clone(c.Disks), slices.Clone(c.Nics)
	for i := range c.Disks {
		c.Disks[i].Colo = "False"
	}
	for i := range c.Nics {
		c.Nics[i].NICType = "vif"
	}
	return c
}

func (c domainConfig) memoryMiB() int { return int(c.BInfo.MaxKB >> 10) }

// argument is the value of a word KEY=VALUE in the guest's command line.
func (c domainConfig) argument(key string) (string, bool) {
	for word := range strings.FieldsSeq(c.BInfo.Cmdline) {
		if value, ok := strings.CutPrefix(word, key+"="); ok {
			return value, true
		}
	}
	return "", false
}

// Words of a guest's command line that make it a difficult one: it does not
// answer the request. With xlsim.suspend=never it says so beforehand
// (control/feature-suspend is 0), with =ignore it does not. With =late it
// answers the first request and suspends a second after that was given up.
const (
	argSuspend  = "xlsim.suspend"
	argShutdown = "xlsim.shutdown"
	argNever    = "never"
	argIgnore   = "ignore"
	argLate     = "late"
)

// deaf: the guest does not answer what the argument is about.
func (c domainConfig) deaf(key string) bool {
	value, _ := c.argument(key)
	return value == argNever || value == argIgnore
}

var (
	sizeForm  = regexp.MustCompile(`^([0-9]+)(B|KiB|MiB|GiB)?(/s)?$`)
	sizeUnits = map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
)

// parseSize reads "5MiB/s", "64KiB" or bytes.
func parseSize(s string) (int64, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q: not like 5MiB/s", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 40)
	return n * sizeUnits[m[2]], err
}

var emptyObject = regexp.MustCompile(`(?m)^( *)(.*): \{\}(,?)$`)

// toJSON prints as libxl's JSON printer does: four blanks, and an empty object
// spread over three lines.
func toJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("xlsim: a config that cannot be printed: %v", err)) // its types always can
	}
	return emptyObject.ReplaceAllString(b.String(), "$1$2: {\n\n$1}$3")
}
