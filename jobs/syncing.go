package jobs

import "context"

// sync lists the steps of a job that moves one device without any domain:
// no guest is held, so nothing is handed over.
func (m *Migration) sync() []Step {
	return []Step{
		{Name: Check, Do: m.check},
		{Name: Reserve, Do: m.reserveDevice, Undo: m.release},
		{Name: Prepare, Do: m.prepare},
		{Name: Seed, Do: m.copyDevice},
		{Name: Settle, Do: m.settleDevice},
	}
}

// reserveDevice needs no owner key: the device at the destination is the
// job's alone while the node holds its lock.
func (m *Migration) reserveDevice(ctx context.Context) error {
	m.rec.Epoch = uint64(m.rec.Attempt)
	if err := m.src.Begin(ctx, m.rec.Job()); err != nil {
		return err
	}
	return m.dst.Reserve(ctx, m.rec.Job())
}

func (m *Migration) copyDevice(ctx context.Context) error {
	_, err := m.pass(ctx, FinalPass)
	return err
}

func (m *Migration) settleDevice(ctx context.Context) error {
	return m.dst.Settle(ctx, m.rec.Job())
}
