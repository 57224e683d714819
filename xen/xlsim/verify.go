package xlsim

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Report is what a verification found.
type Report struct {
	Records int // slots that hold a record the guest knows of
	Slots   int // slots checked, empty ones too
	Pages   int // RAM pages checked
	Written int64
	// Bad is what is proven wrong, in words: lost, older, newer, torn, foreign
	// or repeated records, stale RAM pages, violations of the witness.
	Bad []string
}

// maxShown bounds how many faults an error prints.
const maxShown = 8

// Err is nil when nothing is bad.
func (r Report) Err() error {
	if len(r.Bad) == 0 {
		return nil
	}
	shown := r.Bad[:min(len(r.Bad), maxShown)]
	errs := make([]error, 0, len(shown)+1)
	for _, b := range shown {
		errs = append(errs, errors.New(b))
	}
	return fmt.Errorf("%d faults proven in the guest's RAM, disks or witness: %w", len(r.Bad), errors.Join(errs...))
}

// Verify proves that a domain's RAM and disks are of the same moment, that
// nothing the guest was promised is lost, and that no witness saw two copies.
// A domain that runs is held still meanwhile (a blackout of a second or so);
// one that is paused or suspended is taken as it is.
func Verify(ctx context.Context, hostDir, domain string) (Report, error) {
	var report Report
	err := withStill(ctx, hostDir, domain, readOnly, func(d *domainView) error {
		var bad []string
		report.Pages, bad = d.ram.check()
		report.Bad = append(report.Bad, bad...)
		expected := d.ram.expected(exactly)
		paths := map[int]string{}
		for _, disk := range expected.Disks {
			paths[disk.DevID] = d.config.diskPath(disk.DevID)
		}
		if err := report.checkDisks(ctx, expected, paths); err != nil {
			return err
		}
		for i := range d.ram.disks() {
			for w := range int(d.ram.head.Writers) {
				report.Written += int64(d.ram.writerLine(i, w).get(lineBytes))
			}
		}
		violations, err := Violations(d.net, expected.UUID)
		report.Bad = append(report.Bad, violations...)
		return err
	})
	if err != nil {
		return report, fmt.Errorf("verify %s: %w", domain, err)
	}
	return report, nil
}

// Snapshot is what a guest knows of its disks at this moment. It may write on
// afterwards, so the answer is a lower bound.
func Snapshot(ctx context.Context, hostDir, domain string) (Expected, error) {
	var e Expected
	err := withStill(ctx, hostDir, domain, readOnly, func(d *domainView) error {
		e = d.ram.expected(atLeast)
		return nil
	})
	if err != nil {
		return e, fmt.Errorf("snapshot %s: %w", domain, err)
	}
	return e, nil
}

// VerifyDisks checks disks alone, without a guest: paths by the name the guest
// has for them (vdev).
func VerifyDisks(ctx context.Context, e Expected, paths map[string]string) (Report, error) {
	var report Report
	byID := map[int]string{}
	for vdev, path := range paths {
		id, err := vdevNumber(vdev)
		if err != nil {
			return report, err
		}
		byID[id] = path
	}
	return report, report.checkDisks(ctx, e, byID)
}

// checkDisks reads every slot past the page cache.
func (r *Report) checkDisks(ctx context.Context, e Expected, paths map[int]string) error {
	buf, err := alignedBuffer(slotSize)
	if err != nil {
		return err
	}
	defer releaseBuffer(buf)
	uuid, err := parseUUID(e.UUID)
	if err != nil {
		return err
	}
	for _, d := range e.Disks {
		if paths[d.DevID] == "" {
			r.Bad = append(r.Bad, fmt.Sprintf("disk %d: is not there", d.DevID))
			continue
		}
		if err := r.checkDisk(ctx, d, e, uuid, paths[d.DevID], buf); err != nil {
			return fmt.Errorf("disk %d: %w", d.DevID, err)
		}
	}
	return nil
}

func (r *Report) checkDisk(ctx context.Context, d ExpectedDisk, e Expected, uuid [16]byte, path string, buf []byte) error {
	file, err := openBlockFile(path, readOnly)
	if err != nil {
		return err
	}
	defer file.close()
	if file.size < d.Size {
		r.Bad = append(r.Bad, fmt.Sprintf("disk %d: %d bytes, the guest knows %d", d.DevID, file.size, d.Size))
		return nil
	}
	place := geometry{size: d.Size, slots: len(d.Slots)}
	for i, want := range d.Slots {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := file.readAt(buf, place.offset(i)); err != nil {
			return fmt.Errorf("slot %d: %w", i, err)
		}
		owner := slotOwner{uuid: uuid, devID: uint32(d.DevID), writer: uint32(i % e.Writers), slot: uint32(i)}
		if fault := owner.judge(buf, want, e.bound()); fault != "" {
			r.Bad = append(r.Bad, fmt.Sprintf("disk %d slot %d: %s", d.DevID, i, fault))
		}
		r.Slots++
		if want.Ack > 0 {
			r.Records++
		}
	}
	return nil
}

// domainView is a domain that stands still.
type domainView struct {
	id     int
	net    string
	config domainConfig
	ram    *ram
}

// withStill holds a domain still while f looks at it.
func withStill(ctx context.Context, hostDir, who string, how access, f func(*domainView) error) error {
	spec, err := LoadHost(hostDir)
	if err != nil {
		return err
	}
	c := &call{dir: hostDir, spec: spec}
	d, err := c.resolve(who)
	if err != nil {
		return err
	}
	if !d.Built {
		return errors.New("the domain is half built: there is no guest in it")
	}
	var frozen net.Conn
	if frozen, err = tell(ctx, hostDir, d.ID, order{Op: opFreeze}); err != nil {
		return err
	}
	defer frozen.Close()
	mem, err := mapRAM(runtimeDir(hostDir, d.ID) + "/ram")
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(mem) }()
	if how == readWrite && !c.stands(d.ID) {
		return errors.New("the domain must be paused: it would find out by itself at once")
	}
	view := &domainView{id: d.ID, net: spec.Net, config: d.Config}
	if view.ram, err = openRAM(mem); err != nil {
		return err
	}
	return f(view)
}

// stands: the domain is paused or suspended for everybody to see.
func (c *call) stands(id int) bool {
	h, err := lockHost(c.dir)
	if err != nil {
		return false
	}
	defer h.unlock()
	d := h.byID(id)
	if d == nil {
		return false
	}
	s := h.status(d)
	return s.Paused || s.Suspended
}

// StalePage is a negative control: it puts one page of the RAM of a paused
// domain back to an older generation, as a migration that lost the last change
// of a page would. Verify must find it.
func StalePage(ctx context.Context, hostDir, domain string) error {
	return withStill(ctx, hostDir, domain, readWrite, func(d *domainView) error {
		for i := range d.ram.workPages() {
			if gen := d.ram.gen(i); gen > 1 {
				fillWork(d.ram.page(d.ram.head.WorkAt+i), d.ram.head.Seed, i, gen-1)
				return nil
			}
		}
		return errors.New("stale page: no page was dirtied yet; let the guest run first")
	})
}

// DropRecord is a negative control: it puts an older record into a slot of a
// disk of a paused domain, as a migration that lost the last write would.
// Verify must find it.
func DropRecord(ctx context.Context, hostDir, domain string) error {
	return withStill(ctx, hostDir, domain, readWrite, func(d *domainView) error {
		for _, disk := range d.ram.disks() {
			for s := range int(disk.Slots) {
				if state := d.ram.slot(disk, s); state.Ack > 1 {
					return d.writeOlder(disk, s, state)
				}
			}
		}
		return errors.New("drop record: no slot was written twice yet; let the guest run first")
	})
}

func (d *domainView) writeOlder(disk ramDisk, slot int, state SlotState) error {
	file, err := openBlockFile(d.config.diskPath(int(disk.DevID)), readWrite)
	if err != nil {
		return err
	}
	buf, err := alignedBuffer(slotSize)
	if err != nil {
		return errors.Join(err, file.close())
	}
	defer releaseBuffer(buf)
	owner := d.ram.owner(disk, slot)
	older := record{
		UUID: owner.uuid, DevID: owner.devID, Writer: owner.writer, Slot: owner.slot, Length: 4096,
		Seq: state.Ack - 1, Prev: state.Ack - 2, Seed: bootSeed(),
	}
	older.encode(buf)
	place := geometry{size: disk.Size, slots: int(disk.Slots)}
	return errors.Join(file.writeAt(buf[:older.Length], place.offset(slot)), file.close())
}
