package xlsim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Defaults of a guest whose command line says nothing.
const (
	defaultRate    = 1 << 20
	defaultDirty   = 1 << 20
	defaultWriters = 2
)

// boot is a cold boot: fresh memory, and what is found on the disks is taken
// over, so that it can still be proven what became of it.
func (g *guest) boot(mem []byte) error {
	head := ramHead{Seed: bootSeed(), Writers: defaultWriters}
	var err error
	if head.UUID, err = parseUUID(g.config.CInfo.UUID); err != nil {
		return err
	}
	if err := g.settings(&head); err != nil {
		return err
	}
	if g.witness, err = openWitness(g.call.spec.Name, g.call.spec.Net, g.config.CInfo.UUID, g.id); err != nil {
		return err
	}
	for _, d := range g.config.Disks {
		if d.ReadWrite == 0 || head.NDisks == maxDisks {
			continue
		}
		found, err := g.findDisk(d, head.UUID)
		if err != nil {
			return err
		}
		head.Disks[head.NDisks] = found
		head.NDisks++
	}
	if g.ram, err = bootRAM(mem, head); err != nil {
		return err
	}
	final, err := Final(g.call.spec.Net, g.config.CInfo.UUID)
	if err != nil {
		return err
	}
	for i := range g.ram.disks() {
		if err := g.adopt(i, final); err != nil {
			return err
		}
	}
	// From now on the mark is only a lower bound: this boot may end in a crash.
	if final.UUID != "" && final.Exact {
		final.Exact = false
		return writeJSON(finalPath(g.call.spec.Net, g.config.CInfo.UUID), final)
	}
	return nil
}

// settings reads the guest's command line.
func (g *guest) settings(head *ramHead) error {
	size := func(key string, otherwise int64) (int64, error) {
		text, ok := g.config.argument(key)
		if !ok {
			return otherwise, nil
		}
		n, err := parseSize(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", key, err)
		}
		return n, nil
	}
	var errs [3]error
	head.Rate, errs[0] = size("xlsim.rate", defaultRate)
	head.DirtyRate, errs[1] = size("xlsim.dirty", defaultDirty)
	if text, ok := g.config.argument("xlsim.writers"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxWriters {
			errs[2] = fmt.Errorf("xlsim.writers: %q: 1 to %d", text, maxWriters)
		}
		head.Writers = uint32(n)
	}
	return errors.Join(errs[:]...)
}

// findDisk opens a disk and reads its label.
func (g *guest) findDisk(d diskConfig, uuid [16]byte) (ramDisk, error) {
	var found ramDisk
	id, err := vdevNumber(d.Vdev)
	if err != nil {
		return found, err
	}
	file, err := openBlockFile(d.Path, readWrite)
	if err != nil {
		return found, fmt.Errorf("disk %s: %w", d.Vdev, err)
	}
	g.disks = append(g.disks, file)
	place := geometryOf(file.size)
	if file.size >= labelSize {
		buf, err := alignedBuffer(labelSize)
		if err != nil {
			return found, err
		}
		defer releaseBuffer(buf)
		if err := file.readAt(buf, 0); err != nil {
			return found, fmt.Errorf("disk %s: %w", d.Vdev, err)
		}
		labelled := decodeLabel(buf, uuid, uint32(id))
		switch {
		case labelled > file.size:
			return found, fmt.Errorf("disk %s: %d bytes, it had %d when the guest ran before", d.Vdev, file.size, labelled)
		case labelled > 0:
			place = geometryOf(labelled)
		default:
			g.bare = append(g.bare, len(g.disks)-1)
		}
	}
	return ramDisk{DevID: uint32(id), Slots: uint32(place.slots), Size: place.size}, nil
}

// adopt takes the records on disk i over. What the guest's last orderly
// shutdown promised must be there.
func (g *guest) adopt(i int, final Expected) error {
	d, file := g.ram.disks()[i], g.disks[i]
	place := geometry{size: d.Size, slots: int(d.Slots)}
	buf, err := alignedBuffer(slotSize)
	if err != nil {
		return err
	}
	defer releaseBuffer(buf)
	promised := final.disk(int(d.DevID), d.Size)
	torn := 0
	for s := range int(d.Slots) {
		if err := file.readAt(buf, place.offset(s)); err != nil {
			return fmt.Errorf("disk %d: slot %d: %w", d.DevID, s, err)
		}
		owner := g.ram.owner(d, s)
		state, isTorn := takeOver(owner, buf)
		if isTorn {
			torn++
		}
		g.ram.setSlot(d, s, state)
		l := g.ram.writerLine(i, int(owner.writer))
		l.add(lineBase, state.Ack)
		if s < len(promised) && (final.Exact || !isTorn) {
			owner.writer = uint32(s % final.Writers) // as it was then
			if fault := owner.judge(buf, promised[s], final.bound()); fault != "" {
				(&writer{g: g, d: d, number: int(owner.writer), line: l}).bad(fmt.Sprintf("slot %d at boot: %s", s, fault))
			}
		}
	}
	g.log.Printf("disk %d: %d slots, %d torn ones", d.DevID, d.Slots, torn)
	return nil
}

// takeOver is what a guest knows of a slot when it has just booted. The writer
// may be another one now; guest, disk and slot may not.
func takeOver(owner slotOwner, buf []byte) (s SlotState, torn bool) {
	r, sum, err := decodeRecord(buf)
	switch {
	case errors.Is(err, errNoRecord):
		return SlotState{}, false
	case err != nil:
		return SlotState{AckSum: unknownSum}, true
	case r.UUID != owner.uuid || r.DevID != owner.devID || r.Slot != owner.slot || r.Writer != owner.writer:
		return SlotState{AckSum: unknownSum}, false
	}
	return SlotState{Ack: r.Seq, AckSum: sum}, false
}

// attach wakes a guest in memory that was restored. It is who its RAM says it
// is, and the witness watches that one: a config given to `xl restore` may
// carry another UUID, or none.
func (g *guest) attach(mem []byte) (err error) {
	if g.ram, err = openRAM(mem); err != nil {
		return err
	}
	uuid := formatUUID(g.ram.head.UUID)
	if uuid != g.config.CInfo.UUID {
		g.log.Printf("the config calls this guest %s, it knows itself as %s", g.config.CInfo.UUID, uuid)
	}
	if g.witness, err = openWitness(g.call.spec.Name, g.call.spec.Net, uuid, g.id); err != nil {
		return err
	}
	for _, d := range g.ram.disks() {
		path := g.config.diskPath(int(d.DevID))
		if path == "" {
			return fmt.Errorf("disk %d: the guest has it, the config has not", d.DevID)
		}
		file, err := openBlockFile(path, readWrite)
		if err != nil {
			return fmt.Errorf("disk %d: %w", d.DevID, err)
		}
		g.disks = append(g.disks, file)
	}
	return nil
}

// diskPath is where the config has a writable disk, "" for none.
func (c domainConfig) diskPath(devID int) string {
	for _, d := range c.Disks {
		if id, err := vdevNumber(d.Vdev); err == nil && id == devID && d.ReadWrite != 0 {
			return d.Path
		}
	}
	return ""
}

// writeLabels labels the disks that have none. A paused guest writes nothing,
// so this waits for its first moment.
func (g *guest) writeLabels() {
	for _, i := range g.bare {
		d := g.ram.disks()[i]
		buf, err := alignedBuffer(labelSize)
		if err == nil {
			encodeLabel(buf, g.ram.head.UUID, d.DevID, d.Size)
			err = g.disks[i].writeAt(buf, 0)
			releaseBuffer(buf)
		}
		if err != nil {
			g.log.Printf("WL BAD disk %d: label: %v", d.DevID, err)
			g.witness.violation(fmt.Sprintf("WL BAD disk %d: label: %v", d.DevID, err))
		}
	}
	g.bare = nil
}

func parseUUID(s string) (u [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("uuid %q: not a UUID", s)
	}
	return [16]byte(b), nil
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
