// Package coordinator decides which job starts when, and where a VM goes that
// named no host; it empties hosts and brings their VMs home. It takes
// submissions and orders, claims VMs and hands jobs to their source nodes,
// which drive them.
//
// Pure, over a Snapshot:
//
//	snapshot.go what is known, indexed, with what is decided on the way
//	decide.go   what to do with every queued job
//	place.go    which hosts can take a VM, best first, and why others cannot
//	plan.go     who goes where if a host is emptied; who can come home
//	advance.go  the next step of a drain or restore
//
// Around it:
//
//	mark.go     what is written down about a host: cordon, drain, VMs away
//	orders.go   what people and rules order about hosts; fleet.go its words
//	wishes.go   what they want of jobs and VMs
//	submit.go   a request becomes a record: found, claimed, written
//	view.go     the snapshot, kept by watching
//	apply.go    does what was decided about a job
//	drive.go    does what was decided about a drain
//
// # What may be assumed after a crash
//
// All it knows is in records, owner keys, marks and presence; a coordinator that
// starts anew reads them and goes on. A submission that was answered is a
// record. A claim without a record is a submission that died between the two
// writes; the next submission of that VM finds it by its age and takes it away.
// A job handed over whose doorbell was lost is rung for again. A drain is
// written before what follows from it is done, and its jobs have their ids
// before they are made: a job that is named and not there is made, once.
//
// Several coordinators may run. Any of them takes submissions and orders; one
// leads, under an Office that the store itself holds it to: one that was
// replaced changes nothing any more, however late it writes.
//
// # What it does not know
//
// xl, block devices, subjects; what a job does once its source node has it. It
// never writes a record that is running.
package coordinator
