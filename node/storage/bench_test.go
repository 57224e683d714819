package storage

import (
	"context"
	"testing"
)

// BenchmarkCreateRetire is what a disk costs in synced writes of the registry.
func BenchmarkCreateRetire(b *testing.B) {
	h, ctx := newBench(b), context.Background()
	q := h.request("j1", "vm1", "disk")
	for b.Loop() {
		ok[Volume](b)(h.Create(ctx, q))
		ok[[]Outcome](b)(h.Retire(ctx, "j1"))
	}
}

// BenchmarkInUse looks through all processes.
func BenchmarkInUse(b *testing.B) {
	h, ctx := newBench(b), context.Background()
	q := h.request("j1", "vm1", "disk")
	ok[Volume](b)(h.Create(ctx, q))
	for b.Loop() {
		ok[[]Use](b)(h.InUse(ctx, q.Path))
	}
}
