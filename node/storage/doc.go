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
// the file system can hold one, a tag on the file itself that repeats the
// record's ID. The role says what may be done to it:
//
//	made      a job created it; Retire of that job removes it
//	adopted   it was there before (a shadow, an existing block device); Retire
//	          gives it back, nothing ever removes it
//	shadow    its VM lives elsewhere; a file bears another name, so that no old
//	          configuration can start from it; PruneShadow removes it
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
//   - Nothing without a name is left: every file that exists by our doing is in
//     a record that was written before the file was. Temporary names contain
//     the record's random ID.
//   - A call that finds an unfinished change of another kind finishes that
//     first. The exception is going back: Retire undoes an unfinished Create or
//     Adopt of its job.
//   - Nothing foreign is removed or overwritten: a name is given only where
//     none was (no-replace rename), and a file is removed only if role and job
//     in the record, tag and inode all say so. If somebody put another file in
//     its place, that file stays and the record goes.
//
// Holds of space are files too: they survive until ReleaseHold.
//
// # Rooms for what follows
//
// Pool is where volumes of one kind live: file systems and single block devices
// now; a volume group, a thin pool, a zpool fit the same methods (find, make,
// move to and from the shadow's name, remove, with tags of their own kind).
// Tracker says what changed between two passes over a volume.
// Commands of lvm and zfs belong into this package and nowhere else.
//
// # What it does not know
//
// Domains. Whether a guest uses a device through blkback shows in xenstore
// only: the caller checks that. It does not know contents either, never reads or
// writes a volume's data, and does not know that a shadow is an older copy of
// what. Space is what the file system says less what is held: files that are
// sparse now and grow later are not foreseen.
// Between the look at a file and its removal somebody with root's rights may still
// exchange it; one registry serves one host and is not for a network file system.
package storage
