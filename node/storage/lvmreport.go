package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// logical is a logical volume as lvs reports it. Hidden ones, the parts of
// mirrors and pools, are not reported.
type logical struct {
	name   lvName
	uuid   string
	stable string // Identity.Stable, the same that the kernel tells of an active one
	size   int64  // bytes
	attr   string // lv_attr: ten flags, see lvs(8)
	tags   []string
}

var logicalFields = []string{"vg_name", "vg_uuid", "lv_name", "lv_uuid", "lv_size", "lv_attr", "lv_tags"}

// Places of flags in lv_attr.
const (
	lvType  = 0
	lvState = 4
	lvOpen  = 5
	lvSkip  = 9 // not to be activated unless told twice
	lvFlags = 10
)

func (l logical) active() bool { return l.attr[lvState] != '-' }

// open is true too where lvs could not tell.
func (l logical) open() bool { return l.attr[lvOpen] != '-' }

func (l logical) skipped() bool { return l.attr[lvSkip] == 'k' }

// joined tells whether l is one of a classic snapshot and its origin: they are
// brought up and down together, and an origin takes its snapshots with it when it is removed.
func (l logical) joined() bool { return strings.ContainsRune("oOsS", rune(l.attr[lvType])) }

func (l logical) origin() bool { return strings.ContainsRune("oO", rune(l.attr[lvType])) }

// physical is a physical volume as pvs reports it, with what it says of its group.
type physical struct {
	group     string // "" if it is in none
	groupUUID string
	groupAttr string // vg_attr: six flags, see vgs(8)
	extent    int64  // bytes
	device    string
	attr      string // pv_attr: three flags, see pvs(8)
	free      int64  // extents
}

var physicalFields = []string{"vg_name", "vg_uuid", "vg_attr", "vg_extent_size", "pv_name", "pv_attr", "pv_pe_count", "pv_pe_alloc_count"}

// row is one line of a report: values by the name of the field.
type row map[string]string

// readReport returns the rows of kind ("lv", "pv") of a report in JSON. Each has all of fields.
func readReport(b []byte, kind string, fields []string) ([]row, error) {
	var doc struct {
		Report []map[string][]row `json:"report"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("not a report in JSON: %w", err)
	}
	if len(doc.Report) == 0 {
		return nil, errors.New("no report in it")
	}
	var out []row
	for _, part := range doc.Report {
		for _, r := range part[kind] {
			for _, f := range fields {
				if _, ok := r[f]; !ok {
					return nil, fmt.Errorf("a row has no %s", f)
				}
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func (r row) number(field string) (int64, error) {
	n, err := strconv.ParseInt(r[field], 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is %q, not a number", field, r[field])
	}
	return n, nil
}

func readLogicals(b []byte) ([]logical, error) {
	rows, err := readReport(b, "lv", logicalFields)
	if err != nil {
		return nil, err
	}
	var out []logical
	for _, r := range rows {
		l := logical{name: lvName{r["vg_name"], r["lv_name"]}, uuid: r["lv_uuid"], attr: r["lv_attr"], stable: lvStable(r["vg_uuid"], r["lv_uuid"])}
		if len(l.attr) < lvFlags {
			return nil, fmt.Errorf("%s: lv_attr is %q, shorter than %d flags", l.name.path(), l.attr, lvFlags)
		}
		if l.size, err = r.number("lv_size"); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name.path(), err)
		}
		if t := r["lv_tags"]; t != "" {
			l.tags = strings.Split(t, ",")
		}
		out = append(out, l)
	}
	return out, nil
}

// lvStable makes of LVM's UUIDs what the kernel shows of an active volume, behind stableName's prefix.
func lvStable(group, volume string) string {
	return "dm:LVM-" + strings.ReplaceAll(group+volume, "-", "")
}

func readPhysicals(b []byte) ([]physical, error) {
	rows, err := readReport(b, "pv", physicalFields)
	if err != nil {
		return nil, err
	}
	var out []physical
	for _, r := range rows {
		p := physical{group: r["vg_name"], groupUUID: r["vg_uuid"], groupAttr: r["vg_attr"], device: r["pv_name"], attr: r["pv_attr"]}
		var total, taken int64
		for _, n := range []struct {
			to    *int64
			field string
		}{{&p.extent, "vg_extent_size"}, {&total, "pv_pe_count"}, {&taken, "pv_pe_alloc_count"}} {
			if *n.to, err = r.number(n.field); err != nil {
				return nil, fmt.Errorf("physical volume %s: %w", p.device, err)
			}
		}
		if p.group != "" && (p.extent == 0 || taken > total || len(p.attr) < pvFlags || len(p.groupAttr) < vgFlags) {
			return nil, fmt.Errorf("physical volume %s: extents of %d bytes, %d of %d taken, flags %q, %q: makes no sense", p.device, p.extent, taken, total, p.attr, p.groupAttr)
		}
		p.free = total - taken
		out = append(out, p)
	}
	return out, nil
}

// Places of flags in pv_attr and vg_attr.
const (
	pvAllocatable = 0
	pvMissing     = 2
	pvFlags       = 3

	vgWritable = 0
	vgExported = 2
	vgPartial  = 3
	vgShared   = 5 // clustered, or in the hands of lvmlockd
	vgFlags    = 6
)

// groupState is what a volume group can give.
type groupState struct {
	extent int64 // bytes
	free   int64 // bytes that a new volume may take
	sector int   // logical sector of what is made of its devices, bytes
	unfit  string
}

// stateOf gathers what all know of the group name. It is ErrMissing if there is none.
func stateOf(name string, all []physical) (groupState, error) {
	var g groupState
	var others []string
	uuid := ""
	for _, p := range all {
		if p.group != name {
			if p.group != "" && !slices.Contains(others, p.group) {
				others = append(others, p.group)
			}
			continue
		}
		if uuid != "" && uuid != p.groupUUID {
			return g, fmt.Errorf("two volume groups on this host are called %s: rename one (vgrename by its UUID): %w", name, ErrUnfit)
		}
		uuid, g.extent, g.unfit = p.groupUUID, p.extent, whyUnfit(p.groupAttr)
		g.sector = max(g.sector, fileSector, sectorOf(p.device))
		if p.attr[pvAllocatable] != 'a' || p.attr[pvMissing] != '-' {
			continue
		}
		if p.free > (math.MaxInt64-g.free)/p.extent {
			return g, fmt.Errorf("volume group %s: %d free extents of %d bytes on %s: makes no sense: %w", name, p.free, p.extent, p.device, ErrUnfit)
		}
		g.free += p.free * p.extent
	}
	if uuid == "" {
		there := "none is there"
		if len(others) > 0 {
			there = "there are " + strings.Join(others, ", ")
		}
		return g, fmt.Errorf("this host has no volume group %s (%s): create it (vgcreate %s DEVICE), or map the disk to another path: %w", name, there, name, ErrMissing)
	}
	return g, nil
}

// whyUnfit says why no volume can be made in a group with these flags, "" if one can.
func whyUnfit(attr string) string {
	switch {
	case attr[vgExported] == 'x':
		return "is exported (vgimport)"
	case attr[vgWritable] != 'w':
		return "is read-only (vgchange)"
	case attr[vgPartial] == 'p':
		return "lacks devices"
	case attr[vgShared] != '-' && attr[vgShared] != 'n':
		return "is shared with other hosts, which xmig does not coordinate"
	}
	return ""
}

// logicals returns the volumes of a group; a group that is not there has none.
func (l lvm) logicals(ctx context.Context, group string) ([]logical, error) {
	out, err := l.ask(ctx, "lvs", logicalFields, "--select", `vg_name="`+group+`"`)
	if err != nil {
		return nil, err
	}
	all, err := readLogicals(out)
	if err != nil {
		return nil, fmt.Errorf("lvs: %w", err)
	}
	return all, nil
}

// logical returns one volume, ErrMissing if there is none of that name.
func (l lvm) logical(ctx context.Context, n lvName) (logical, error) {
	all, err := l.logicals(ctx, n.group)
	if err != nil {
		return logical{}, err
	}
	for _, v := range all {
		if v.name == n {
			return v, nil
		}
	}
	return logical{}, fmt.Errorf("%s: %w", n.path(), ErrMissing)
}

// state asks for the devices of all groups: an error about one that is missing names the others.
func (l lvm) state(ctx context.Context, group string) (groupState, error) {
	out, err := l.ask(ctx, "pvs", physicalFields)
	if err != nil {
		return groupState{}, err
	}
	all, err := readPhysicals(out)
	if err != nil {
		return groupState{}, fmt.Errorf("pvs: %w", err)
	}
	return stateOf(group, all)
}
