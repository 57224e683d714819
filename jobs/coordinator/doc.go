// Package coordinator decides which job starts when, and where a VM goes that
// named no host. It takes submissions, claims VMs and hands jobs to their
// source nodes, which drive them.
//
//	submit.go   a request becomes a record: found, claimed, written
//	decide.go   what to do with a snapshot of hosts and records: pure
//	place.go    which hosts can take a VM, best first, and why others cannot: pure
//	apply.go    does what was decided, each change by compare-and-swap
//	view.go     the snapshot, kept by watching
//
// # What may be assumed after a crash
//
// All it knows is in records, owner keys and presence; a coordinator that
// starts anew reads them and goes on. A submission that was answered is a
// record. A claim without a record is a submission that died between the two
// writes; the next submission of that VM finds it by its age and takes it away.
// A job handed over whose doorbell was lost is rung for again.
//
// Several coordinators may run. Any of them takes submissions; who decides is
// up to the caller of Run. Two that decide at once exceed limits at worst:
// every change is bound to the revision that was looked at.
//
// # What it does not know
//
// xl, block devices, subjects; what a job does once its source node has it. It
// never writes a record that is running.
package coordinator
