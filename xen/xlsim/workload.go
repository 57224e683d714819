package xlsim

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// readBackEvery: before one of so many writes the slot is read and checked.
const readBackEvery = 8

// recordSizes is the mix of record lengths, each as likely as the others.
var recordSizes = [...]uint32{4 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10}

// writeTries: a write that fails is tried again, as a block frontend would;
// then the record is given up and counted as bad.
const writeTries = 3

// heart counts time while the guest runs, and shows it to the world.
func (g *guest) heart(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !g.enter(ctx) {
			return nil
		}
		g.status.tick(beatEvery)
		if err := g.witness.beat(time.Now(), g.ram.beat()); err != nil {
			g.log.Printf("heartbeat: %v", err)
		}
		g.leave()
	}
}

// dirtier brings pages of the RAM to their next generation, at the guest's rate.
func (g *guest) dirtier(ctx context.Context) error {
	perTick := int(g.ram.head.DirtyRate * int64(beatEvery) / int64(time.Second) / pageSize)
	if g.ram.head.DirtyRate > 0 {
		perTick = max(perTick, 1)
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !g.enter(ctx) {
			return nil
		}
		for range perTick {
			g.ram.dirty()
		}
		g.leave()
	}
}

// writer writes records to its own slots of one disk.
type writer struct {
	g      *guest
	disk   int
	d      ramDisk
	number int
	place  geometry
	file   *blockFile
	line   line
	buf    []byte
	limit  *rate.Limiter
}

func (w *writer) run(ctx context.Context) error {
	own := (int(w.d.Slots) - w.number + int(w.g.ram.head.Writers) - 1) / int(w.g.ram.head.Writers)
	if own <= 0 || w.g.ram.head.Rate <= 0 {
		return nil
	}
	for {
		// The sizes are drawn before the wait, from the guest's own numbers, so
		// only while it runs.
		if !w.g.enter(ctx) {
			return nil
		}
		length := recordSizes[w.line.random()%uint64(len(recordSizes))]
		w.g.leave()
		if w.limit.WaitN(ctx, int(length)) != nil {
			return nil // ctx has ended
		}
		if !w.g.enter(ctx) {
			return nil
		}
		slot := int(w.line.random()%uint64(own))*int(w.g.ram.head.Writers) + w.number
		w.write(slot, length)
		w.g.leave()
	}
}

// write puts the next record into a slot. The guest runs for as long as it
// takes: pausing it waits.
func (w *writer) write(slot int, length uint32) {
	r, at := w.g.ram, w.place.offset(slot)
	state := r.slot(w.d, slot)
	if w.line.random()%readBackEvery == 0 {
		w.readBack(slot, at, state)
	}
	owner := r.owner(w.d, slot)
	rec := record{
		UUID: owner.uuid, DevID: owner.devID, Writer: owner.writer, Slot: owner.slot, Length: length,
		Seq: max(state.Ack, state.Fly) + 1, Prev: state.Ack, Seed: w.line.random(),
	}
	sum := rec.encode(w.buf)
	state.Fly, state.FlySum = rec.Seq, sum
	r.setSlot(w.d, slot, state)
	var err error
	for range writeTries {
		if err = w.file.writeAt(w.buf[:length], at); err == nil {
			break
		}
	}
	if err != nil {
		w.bad(fmt.Sprintf("slot %d: write of sequence %d: %v", slot, rec.Seq, err))
		return
	}
	r.setSlot(w.d, slot, SlotState{Ack: rec.Seq, AckSum: sum})
	w.line.add(lineDone, rec.Seq-state.Ack)
	w.line.add(lineBytes, uint64(length))
}

// readBack checks what is in the slot before it is overwritten.
func (w *writer) readBack(slot int, at int64, state SlotState) {
	w.line.add(lineReads, 1)
	if err := w.file.readAt(w.buf, at); err != nil {
		w.bad(fmt.Sprintf("slot %d: read: %v", slot, err))
		return
	}
	if fault := w.g.ram.owner(w.d, slot).judge(w.buf, state, exactly); fault != "" {
		w.bad(fmt.Sprintf("slot %d: %s", slot, fault))
	}
}

// bad counts and reports a proven fault.
func (w *writer) bad(what string) {
	w.line.add(lineBad, 1)
	text := fmt.Sprintf("WL BAD disk %d writer %d %s", w.d.DevID, w.number, what)
	w.g.log.Print(text)
	w.g.witness.violation(text)
}
