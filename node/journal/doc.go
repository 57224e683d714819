// Package journal keeps what this host has promised about one VM.
//
// A migration is safe because each host remembers, across any crash, which
// facts it has stated: that it sealed the disks, that it is committed, that it
// gave up. The journal is that memory: an append-only file of JSON lines, each
// with a checksum, one file <dir>/<vm-uuid>.journal per VM. Facts are opaque
// here; what may follow on what is decided by whoever writes them. Two kinds of
// processes use one journal: the node worker and the stub that sits between
// xl and the lane.
//
//	decide ── Acquire(<vm>.lock) ── Read ── Append ── carry out ── Release
//	                                          │
//	                     <vm>.journal  {"sum":"…","entry":{"seq":7,…}}
//	                                          │ Archive, attempts that are over
//	                     <vm>.journal.old
//
// # What may be assumed after a crash
//
//   - An entry that Append returned is on disk: file and directory were synced.
//   - An entry that Read returned is on disk too: Read syncs what it has read
//     before it answers. Otherwise a fact written by a process that was killed
//     before its sync could be told to the other host and then be lost.
//   - An entry whose Append failed or never returned is there whole or not at
//     all. A last line without its line feed is such a torn entry: Read leaves it
//     out, the next Append cuts it off. Once left out it never comes back.
//   - Everything else that does not fit (checksum, order of numbers, a bad line
//     in the middle, a bad last line that has its line feed) is ErrDamaged with
//     file and line. Nothing is guessed: an operator must look, for a promise may
//     be among what cannot be read any more.
//   - Archive is cut by a crash into nothing that matters: the old file gets the
//     entries first, then the journal is replaced in one rename.
//
// Numbers (Seq) grow by one per entry for the life of the VM on this host and
// are never used twice, archived entries included. An entry ARCHIVED stands for
// everything that was moved away; its Epoch is the highest that was, so that the
// highest epoch in the file is the highest this host ever wrote.
//
// # Locks
//
// Lock is the exclusive lock per VM and host under which a promise is read,
// decided, written and carried out. It is an flock: it belongs to the open file,
// ends with the last descriptor of it and thus never outlives the processes that
// carry out what was decided, and never needs to be cleaned up. Hand File to the
// process that has to keep it (exec.Cmd.ExtraFiles); every other child of a Go
// program gets nothing, for descriptors are closed at exec.
// Appending takes no Lock of that kind, so that the stub may write for a holder
// that waits for it; a short flock on the journal itself keeps lines apart.
//
// # What it does not know
//
// VMs, hosts, epochs' rules, which facts contradict each other. It does not
// protect against a disk that loses synced data, against somebody who edits the
// file and its sums, or against damage that hits exactly the last line feed.
// Network file systems are out of scope: flock and fsync must mean what they mean locally.
package journal
