// Package jobs is the vocabulary of xmig and the story of one migration: what
// was asked for (spec.go), the record of a job (record.go, state.go), its steps
// top to bottom (migrate.go), the runner that drives them durably (runner.go),
// over the line (line.go) and back (back.go), the rules of the hand-over
// (handover.go, attempt.go, owner.go), pure planning (plan.go, converge.go), and how a job ends that
// nobody drives on (resolve.go, resolver.go). It declares the two
// ends and the stores it needs (ends.go); others implement them.
//
//	queued        ──► planned | cancelled | failed
//	planned       ──► running | queued | cancelled | failed
//	running       ──► succeeded | failed | rolled_back | cancelled | indeterminate
//	indeterminate ──► succeeded | rolled_back | failed
//
// What has no arrow is final; a retry is a new record. The step a job is at is
// another field, and so is every condition with its reason (held, cancel, …).
//
// # Words
//
// S is the source, D the destination. An attempt is one go at moving the VM; a
// job may have several. Each wins an epoch of its own in the VM's owner key
// {node, epoch, attempt}. A fact is a promise of one host for one epoch, in its
// journal: synced to disk before it is acted on, never taken back. To know a
// fact is to have read it in the other host's journal or in a message, however
// old. The line is the hand-over: before it every failure goes back, behind it
// everything goes forward. The claim in the key names the one job that may move
// the VM; it protects nothing but order.
//
// # What may be assumed after a crash
//
// The record is stored before a step acts, and before the guest is stopped
// nothing goes on until it is. While a guest is held it is stored in haste and
// may be older than the truth. So a runner that takes a job up asks the
// source's journal first: with COMMITTING only the rules decide (the swap is
// made again, or D's word or the abort's swap is found); with BACK the attempt
// is over and its undoing is done again; with a guest that may have been
// stopped the attempt goes back; otherwise it goes on where it was. What was
// known of D and of the key is never stored: it is asked for again. Every verb
// of both ends looks first, then acts, and may be called any number of times.
// A failure, or a person's cancel, is stored before the way back begins.
//
// # The rules of the hand-over
//
// Each May… function is asked under the VM's lock, right before the
// promise is written, and again before its effect. e is the attempt's epoch.
//
//   - R1 An attempt begins with its own swap {S,x} to {S,x+1,attempt}: e is won,
//     not read, and no two attempts share one (Migration.begin). S says BEGIN
//     before anything else, while no earlier attempt holds the guest (MayBegin),
//     and stops the guest once in an attempt (MayStop). Once a later epoch began,
//     S commits to none before (MayCommit), and resumes for none (MayResume). D
//     takes in nothing late, and nothing over a VM that lives there (MayAccept,
//     MayReplace); nobody writes there for an attempt that is over (MayFill).
//   - R2 Read the journal, decide, promise, act: all under one lock per VM and
//     host. The ends see to it; nothing here does.
//   - R3 S promises COMMITTING, or BACK before it, never both (MayCommit,
//     MayGoBack). Without COMMITTING it may go back at any time, alone.
//   - R4 COMMITTING needs SEALED, D's READY known, no command left that could
//     resume the guest, and a guest that is there and does not run (MayCommit).
//   - R5 After COMMITTING S goes back only if (a) it knows D's ABORTED, or (b) the
//     key was exactly {S,e+1,abort-of-e} and S never released, or (c) a person
//     vouches that D is dead for good (MayGoBack). The
//     runner gives the VM to no D that is silent, nor to one that a person does
//     not want any more: it asks D to abort, and swaps for (b) if D is silent.
//   - R6 RELEASED needs COMMITTING and no BACK (MayRelease). It stands in for the
//     key when the bus is away, and is given only while D answers.
//   - R7 D promises GO only with READY, its copy there and paused, COMMITTING
//     known, and the key {D,e+1,attempt} or RELEASED (MayGo). That key is proof of
//     COMMITTING too (Job.Handed). A person's word that S is dead for good
//     stands in for all but READY.
//   - R8 ABORTED wins over everything at D, at each effect (MayGo).
//   - R9 D may promise ABORTED while it has no GO; after GO only while its copy
//     is still paused (MayAbort). A copy that is gone after GO proves nothing:
//     the job is indeterminate, and Resolve boots it at D from its disks. One
//     that is lost before GO makes D abort.
//   - R10 A restored copy stays paused until GO; no pipe holds it. The ends see to it.
//   - R11 The key follows the hosts: S that has gone back, or D that has GO, may
//     take it, above every epoch anybody used (Repair). A job that went back
//     does so before it ends, or nobody could move the VM again.
//   - R12 A store that was lost is rebuilt from the journals of all hosts, in epochs
//     two above the highest in them (Recover).
//   - R13 S promises DONE and destroys its copy only if it knows D's RUNNING and
//     not ABORTED, and has no BACK (MayFinish).
//
// model_test.go searches every order of these decisions, in bounds, and shows
// for each rule what comes of weakening it; from every world that it finds,
// Resolve leads to one running copy (model_resolve_test.go).
//
// # What it does not know
//
// NATS, msgpack, xl, files, sockets, the wall clock (it is given one, and puts
// ends to contexts). Blackout is measured by two hosts' clocks and no better
// than they agree.
package jobs
