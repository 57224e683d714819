// Package node is the worker on a dom0. It tells the bus what the host has,
// takes the jobs whose source it is, and is one of the two ends of a migration:
// source.go gives a VM away, destination.go takes one in, with mirrored names.
//
//	queue ──► work.go ──► jobs.Runner ──► source.go ───── lane ─────► destination.go
//	                          │              │ journal, xl               │ journal, xl, volumes
//	                          └── record ────┴──────── RPC ──────────────┘
//
// # What may be assumed after a crash
//
// Every promise is in the VM's journal before its effect is carried out, and
// both happen under one lock per VM that outlives a killed worker: the command
// that carries the effect out holds it (promise.go, rule R2). A worker that
// starts again reads the journal and asks xl what is there; it believes no
// memory of its own. A killed source worker ends `xl save`'s pipe, and xl
// resumes the guest by itself; a killed destination worker ends `xl restore`'s.
// In live mode it is the same until READY was passed on; from then on xl waits
// for its stub, and the stub for a worker (flow.go, stub.go, package xen). A
// guest that lost its monitor by a suspension is looked after here (monitor.go).
// Sessions of a destination are files in the state directory, so that memory
// and space stay held, and nothing half-made is forgotten (session.go, sweep.go).
// GO that was journalled is carried out by whoever comes next; that needs no
// source. Calls may come late, twice, or for an attempt that is over: each looks
// at the journal first, under the lock (fresh and accept in destination.go).
// A reboot of the host is told by the kernel's boot id (boot.go).
//
// # What it does not know
//
// Flags, the terminal, how frames travel, what another node has on its disks.
package node
