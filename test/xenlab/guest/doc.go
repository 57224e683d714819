// Command lab-guest is the work that the guests of the Xen lab do, and the eye
// that watches them from outside.
//
//	run      in a guest: does the work, beats, answers on port 7700
//	stop     in a guest: ends the work in order, before a shutdown
//	watch    in the lab's network: records heartbeats and echoes of all guests
//	gaps     reads that record: the longest silences are the blackouts
//	ask      asks a guest: verify, snapshot
//	disks    in a dom0: holds disks against what a guest said of them
//
// The work is that of a guest of the simulated host, package xlsim, down to the
// format of its records: the real guest runs the simulated one as a process.
// Its RAM is a file in the real RAM and its disk the real data disk. So the same
// proofs hold: every page of RAM and every record is vouched for by another
// page, and a page or a record of an older time shows. Two things more are
// real here: pages that the kernel was made to swap out, which only come back
// if the swap disk moved too, and the network.
//
// # After a crash
//
// What the work was promised by an orderly shutdown lies on the guest's root
// file system and is checked at the next boot. Of a guest that crashed only a
// snapshot asked for before it says what must be on its disk.
package main
