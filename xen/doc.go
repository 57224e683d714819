// Package xen drives Xen's toolstack `xl` on this host, and reads its formats:
// config files, disk and vif specs, the lists and trees that xl and xenstore
// print, the head of a saved domain. It works with Xen 4.4 and newer.
//
//	XL ──────── questions: List Config Info BlockList      xl ...
//	  │                    DisksInUse Backings Guest       xenstore-ls ...
//	  └ Held ── effects:   Create Restore Save Pause       holder ── xl ...
//	                       Unpause Shutdown Destroy
//	                       Rename ResumeSuspended
//	                       Migrate Receive
//
//	Config ParseDisk ParseVIF    what a config file says, every other byte kept
//	FindConfigs MatchConfig      which file describes which guest
//	BootNeeds                    what the guest's next boot reads on this host
//	MapImage Stream              a saved domain with other disks and bridges; its exact end
//	Stub StubWorker              what xl has for a transport of a live migration
//
// # What may be relied on
//
//   - Exit codes of xl prove nothing: pause and unpause exit with 0 whatever
//     happened, a save may fail and have resumed the guest. An error means that
//     something went wrong, not that nothing was done: read the state back (List).
//     Only that much is sure of a nil error: the command said nothing else.
//   - ErrNoDomain, ErrNotPaused and ErrNameTaken are told by xl's texts and by a
//     look at the list. Every failed command is a *CommandError with its argv,
//     exit code or signal, and what it said.
//   - Commands name a domain by its id, never by its name: names may begin with a
//     dash and hold blanks. Blanks at the end of a name are lost in `xl list`.
//   - An effect of a held XL runs under the VM's lock until its command ends.
//   - Two names of one disk are one: DiskUsers compares device numbers, files by
//     their place on their file system, and files behind loop devices.
//
// # After a crash
//
// Nothing is kept here between calls. Whoever dies, the effect is whole or is
// what xl leaves when its pipe breaks, and the lock is taken until it is:
//
//	this process   xl goes on below the holder. A Save whose reader is gone, and
//	               a Restore whose writer is gone, fail by themselves: the guest
//	               runs on at the source, no domain is left at the destination.
//	               A Migrate's stub ends with it until READY was passed on, and
//	               xl resumes the guest, if ever it stood; then both wait.
//	the stub       xl resumes the guest until it has read READY; then it leaves it
//	               suspended, as NAME--migratedaway.
//	the holder     (SIGKILL only) takes its xl along, as if xl had been killed.
//	xl             killed in a Save: the guest is suspended (ResumeSuspended) or,
//	               at the very end, paused too. In a Create or Restore: a domain
//	               is left, paused and mostly without CPUs, or running where
//	               Create was to run it. In a Destroy: one to destroy again. The
//	               other effects are one call into Xen each.
//	the host       no domain is left. Disks are as the guests wrote them.
//
// A service manager must not kill the holders with the worker: a unit for it
// needs KillMode=process.
//
// # What it does not know
//
// VMs as such, jobs, epochs, and whether an effect is allowed: its callers decide
// that under the lock. Backends in driver domains. Domains of libvirt or XAPI,
// which have toolstacks of their own. Xend (`xm`):
// its configs are programs, and only told from ours (ErrPython). That a guest
// works: CPU time that grows is all that can be seen from here.
package xen
