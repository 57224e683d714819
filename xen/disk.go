package xen

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Disk is one item of a config's disk list, as xl reads it. It keeps the text
// it was read from, so that WithTarget changes nothing but the target.
type Disk struct {
	Target        string // a path as written; what Script wants, where there is one; "" in an empty drive
	Vdev          string // xvda
	Format        string // raw unless it says another; empty in an empty drive
	ReadOnly      bool   // CD drives always are
	CDROM         bool
	Backend       string // phy, qdisk, tap, standalone; "" leaves it to the host
	BackendDomain string // the domain that has the device; "" for dom0
	Script        string // makes a device of the target, as block-iscsi does

	spec     string
	from, to int  // the target in spec; equal where it has none
	keyed    bool // it stands behind target=
}

// diskParser walks over a spec once. Positionals are target, format, vdev and
// access; keys, flags and old prefixes may stand between them.
type diskParser struct {
	Disk
	at       int
	prefixed bool // after an old prefix the format has no place of its own
	// An empty positional takes its place too.
	target, vdev, access bool
}

// ParseDisk reads a disk spec as xl does: a blank behind a word belongs to it,
// target= takes the rest. Keys that are not known here are left to xl.
// Refused is what xl refuses and what names another disk after a reboot.
func ParseDisk(spec string) (Disk, error) {
	p := &diskParser{Disk: Disk{spec: spec}}
	if err := p.parse(); err != nil {
		return Disk{}, fmt.Errorf("disk %q: %w", spec, err)
	}
	return p.Disk, nil
}

func (p *diskParser) parse() error {
	if strings.ContainsAny(p.spec, "\n\x00") {
		return fmt.Errorf("a line end or a NUL byte in it: a disk is written in one line")
	}
	for {
		for p.at < len(p.spec) && (p.spec[p.at] == ' ' || p.spec[p.at] == '\t') {
			p.at++
		}
		if p.at == len(p.spec) {
			return p.finish()
		}
		if err := p.item(); err != nil {
			return err
		}
	}
}

// item takes one item and the comma behind it.
func (p *diskParser) item() error {
	rest := p.spec[p.at:]
	if strings.HasPrefix(rest, "target=") {
		end := len(p.spec)
		if strings.HasSuffix(rest, ",") {
			end--
		}
		from := p.at + len("target=")
		p.at, p.keyed = len(p.spec), true
		return p.setTarget(from, end)
	}
	if m := diskPrefix.FindStringSubmatch(rest); m != nil {
		if known, err := p.prefix(m[1], rest[len(m[0]):]); known || err != nil {
			p.at += len(m[0])
			return err
		}
	}
	word, _, comma := strings.Cut(rest, ",")
	from := p.at
	p.at += len(word)
	if comma {
		p.at++
	}
	key, value, named := strings.Cut(word, "=")
	switch {
	case named && !diskKey.MatchString(key):
		return fmt.Errorf("a = in %q: write such a path last, as target=PATH", word)
	case named:
		return p.named(key, value)
	case word == "cdrom":
		p.CDROM = true
		return nil
	case slices.Contains(diskFlags, word):
		return nil
	}
	return p.positional(word, from)
}

var (
	diskPrefix = regexp.MustCompile(`^([a-z][a-z0-9]*):`)
	diskKey    = regexp.MustCompile(`^[a-z][-_a-z0-9]*$`)
	diskVdev   = regexp.MustCompile(`^[A-Za-z0-9]+$`)

	// unstableTarget: the kernel numbers these as they come.
	unstableTarget = regexp.MustCompile(`^(/dev/)?dm-[0-9]+$`)
)

// diskFlags say nothing about what the disk is or where.
var diskFlags = []string{"direct-io-safe", "discard", "no-discard", "trusted", "untrusted", "colo", "no-colo"}

var diskFormats = []string{"raw", "qcow", "qcow2", "vhd", "qed", "empty"}

// prefix takes an old prefix, phy: for example. A word and a colon before
// letters or digits can be something else, as in hdc:cdrom.
func (p *diskParser) prefix(name, rest string) (known bool, err error) {
	switch name {
	case "phy", "file", "tap", "tap2", "tapdisk", "aio", "ioemu":
	case "raw", "qcow", "qcow2", "vhd":
		err = p.setFormat(name)
	case "iscsi", "nbd", "enbd", "drbd":
		err = once("script", &p.Script, "block-"+name)
	default:
		if rest == "" || !isDigit(rest[0]) && !(rest[0] >= 'a' && rest[0] <= 'z') {
			return false, fmt.Errorf("prefix %s: is not known", name)
		}
		return false, nil
	}
	p.prefixed = true
	return true, err
}

func (p *diskParser) named(key, value string) error {
	switch key {
	case "format":
		return p.setFormat(value)
	case "vdev":
		p.vdev = true
		return once("vdev", &p.Vdev, value)
	case "access":
		return p.setAccess(value)
	case "devtype":
		return p.setType(value)
	case "backend":
		return once("backend", &p.BackendDomain, value)
	case "backendtype":
		if !slices.Contains([]string{"phy", "tap", "qdisk", "standalone"}, value) {
			return fmt.Errorf("backendtype %q: want phy, tap, qdisk or standalone", value)
		}
		if p.Backend == value {
			return nil
		}
		return once("backendtype", &p.Backend, value)
	case "script":
		return once("script", &p.Script, value)
	}
	if value == "" { // at the end of a spec xl takes such a key for a positional
		return fmt.Errorf("key %s: has no value", key)
	}
	return nil
}

func (p *diskParser) positional(word string, from int) error {
	switch {
	case !p.target:
		return p.setTarget(from, from+len(word))
	case !p.prefixed && p.Format == "":
		if p.Target == "" && strings.Contains(word, ":") { // an empty drive may leave its format out
			p.Format = "empty"
			return p.setVdev(word)
		}
		return p.setFormat(word)
	case !p.vdev:
		return p.setVdev(word)
	case !p.access:
		p.access = true
		return p.setAccess(word)
	}
	return fmt.Errorf("%q: more than target, format, vdev and access", word)
}

func (p *diskParser) setTarget(from, to int) error {
	p.target = true
	if err := once("target", &p.Target, p.spec[from:to]); err != nil {
		return err
	}
	p.from, p.to = from, to
	return nil
}

func (p *diskParser) setFormat(s string) error {
	if s == "" {
		s = "raw"
	}
	if !slices.Contains(diskFormats, s) {
		return fmt.Errorf("format %q: want one of %s", s, strings.Join(diskFormats, ", "))
	}
	if p.Format == s {
		return nil
	}
	return once("format", &p.Format, s)
}

// setVdev takes the old form hdc:cdrom too.
func (p *diskParser) setVdev(word string) error {
	p.vdev = true
	if i := strings.LastIndexByte(word, ':'); i >= 0 {
		if err := p.setType(word[i+1:]); err != nil {
			return err
		}
		word = word[:i]
	}
	return once("vdev", &p.Vdev, word)
}

func (p *diskParser) setType(s string) error {
	if s != "cdrom" && s != "disk" {
		return fmt.Errorf("type %q: want cdrom or disk", s)
	}
	p.CDROM = s == "cdrom"
	return nil
}

func (p *diskParser) setAccess(s string) error {
	switch s {
	case "r", "ro":
		p.ReadOnly = true
	case "", "w", "rw":
		p.ReadOnly = false
	case "w!":
		return fmt.Errorf("access %q: only the old xm shares a disk among writers; for xl write w", s)
	default:
		return fmt.Errorf("access %q: want r, ro, w or rw", s)
	}
	return nil
}

// once sets a value that has none yet.
func once(what string, place *string, value string) error {
	if *place != "" {
		return fmt.Errorf("%s: given twice, as %q and %q", what, *place, value)
	}
	*place = value
	return nil
}

// finish draws the conclusions when all was read.
func (p *diskParser) finish() error {
	if p.Format == "" {
		p.Format = "raw"
	}
	if p.CDROM {
		p.ReadOnly = true
		if p.Target == "" {
			p.Format = "empty"
		}
	}
	switch {
	case p.Vdev == "":
		return fmt.Errorf("no vdev: name the disk in the guest, vdev=xvda for example")
	case !diskVdev.MatchString(p.Vdev):
		return fmt.Errorf("vdev %q: want letters and digits, xvda for example", p.Vdev)
	case p.Target == "" && !p.CDROM:
		return fmt.Errorf("no target: only a CD drive can be empty")
	case unstableTarget.MatchString(p.Target):
		return fmt.Errorf("target %s: is another disk after a reboot; write /dev/VG/LV or /dev/mapper/NAME", p.Target)
	}
	return nil
}

// WithTarget is the spec with another target, and all else as it was: keys
// unknown here, order, spelling. A path that cannot stand where the old one did,
// as one with a comma or a = in it, goes to the end as target=.
func (d Disk) WithTarget(path string) string {
	if d.from < d.to {
		inPlace := d.spec[:d.from] + path + d.spec[d.to:]
		if again, err := ParseDisk(inPlace); err == nil && again.Target == path && again.sameBut(d) {
			return inPlace
		}
	}
	before, behind := d.spec[:d.from], d.spec[d.to:]
	if !d.keyed {
		before, behind = before+behind, ""
		if before != "" && !strings.HasSuffix(before, ",") {
			before += ","
		}
		before += "target="
	}
	if behind == "" && strings.HasSuffix(path, ",") {
		behind = "," // xl takes one away
	}
	return before + path + behind
}

// sameBut tells whether two disks differ in nothing but the target.
func (d Disk) sameBut(o Disk) bool {
	d.Target, d.spec, d.from, d.to, d.keyed = o.Target, o.spec, o.from, o.to, o.keyed
	return d == o
}
