// Package storage knows the volumes of this host: the files and devices that
// guests have for disks. It inspects them, makes them at the destination of a
// migration, keeps them as shadows at the source, and takes back what it made.
//
//	destination   Hold → Create (or Adopt) → Settle          after the hand-over
//	                                       → Retire          if the job goes back
//	source        Shadow  →  (kept)  →  PruneShadow, or adopted by the way back
//
// # Roles
//
// A volume that xmig has to do with has one record in the registry, and, where
// there can be one, a tag on the volume itself that repeats the record's ID: an
// extended attribute of a file, tags of LVM on a logical volume. The role says
// what may be done to it:
//
//	made      a job created it; Retire of that job removes it
//	adopted   it was there before (a shadow, an existing block device); Retire
//	          gives it back, nothing ever removes it
//	shadow    its VM lives elsewhere; a file or a logical volume bears another
//	          name, so that no old configuration can start from it, and a logical
//	          volume is inactive, also after a reboot; PruneShadow removes it
//
// Settle ends the job's claim: the record goes, the volume is the guest's and
// from then on no call of this package removes it.
//
// # What may be assumed after a crash
//
// Each change is three durable writes: the intent is recorded, the effect takes
// place, the record is set to its final form. Every call looks before it acts,
// so it may be repeated after a crash in any line and ends in the same state:
//
//   - Nothing without a name is left: every volume that exists by our doing is in
//     a record that was written before the volume was. Temporary names of files
//     contain the record's random ID; a logical volume is made with its tag.
//   - A call that finds an unfinished change of another kind finishes that
//     first. The exception is going back: Retire undoes an unfinished Create or
//     Adopt of its job.
//   - Nothing foreign is removed or overwritten: a name is given only where
//     none was (no-replace rename), and a volume is removed only if role and job
//     in the record, tag and inode or UUID all say so. If somebody put another
//     in its place, that one stays and the record goes.
//   - No command of lvm2 outlives the lock under which it was begun: it is its
//     standard input, so that a worker that is killed leaves the lock to the command.
//
// Holds of space are files too: they survive until ReleaseHold.
//
// # Rooms for what follows
//
// Pool is where volumes of one kind live: file systems, volume groups and single
// block devices now; a thin pool, a zpool fit the same methods (find, make,
// move to and from the shadow's name, remove, with tags of their own kind).
// Tracker says what changed between two passes over a volume.
// Commands of lvm and zfs belong into this package and nowhere else.
//
// # What it does not know
//
// Domains. Whether a guest uses a device through blkback shows in xenstore
// only, but for logical volumes, of which the device mapper counts all openers:
// the caller checks that. It does not know contents either, never reads or
// writes a volume's data, and does not know that a shadow is an older copy of
// what. Space is what the file system says less what is held: files that are
// sparse now and grow later are not foreseen. A new logical volume holds what its
// extents held before, behind the end of the guest's disk too.
// Between the look at a file and its removal somebody with root's rights may still
// exchange it; one registry serves one host and is not for a network file system.
package storage
