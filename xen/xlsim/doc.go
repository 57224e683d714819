// Package xlsim is a SIMULATED Xen host, for tests and `xmig demo` only. It is
// a program that behaves on the command line as `xl` (Xen 4.17), and as
// `xenstore-ls`, `xenstore-read` and `xenstore-list`. No hypervisor is
// involved, and nothing real may ever depend on it.
//
//	xmig xlsim --host DIR xl list -l d1
//	xmig xlsim --host DIR xenstore-ls -f /local/domain/0/backend/vbd/1
//	xmig xlsim --host DIR guest 1          (the guest's own process)
//
// What is true to life: texts, columns, exit codes and the choice between
// stdout and stderr (golden tests against outputs of a real 4.17 hold them),
// the head and framing of a saved domain, every byte between the two ends of a
// live migration (PV without shadow paging refuses one), the order of the checks, the state a
// domain is left in when something fails or `xl` is killed half way, and that
// the guests outlive every `xl` call.
//
// # A host
//
// A host is a directory:
//
//	host.json      what the host is (HostSpec), settings of the simulation
//	domains.json   the domains, changed only under the lock, renamed into place
//	lock           flock of whoever reads or changes domains.json
//	etc-xen/       config files, etc-xen/auto/ the autostart links
//	log/           one log per guest: what it did, "WL BAD ..." lines
//	dom/<id>/      a running domain: ram, status, the control socket
//
// Several hosts share one directory NET, "the network": there every guest says
// where it runs. That is the witness of the tests:
//
//	NET/<uuid>.running      exclusive flock of the copy that runs
//	NET/<uuid>.heartbeat    a line every 20 ms while it runs: the gaps are the blackouts
//	NET/<uuid>.violations   two copies ran at once, or a guest saw bad data
//	NET/<uuid>.final        what must be on the disks after an orderly shutdown
//
// # A guest
//
// A guest is a process of its own. Its RAM is a memory file; what the guest
// knows is there and nowhere else: the generations of its pages, and for every
// slot of every disk the sequence number that was last acknowledged. Writers
// put checksummed records (4 to 64 KiB, O_DIRECT and O_DSYNC where the file
// system can) into random slots. So whoever holds the RAM and the disks can
// prove that they belong together (Verify): a lost, older, torn, foreign or
// repeated record, one page of an older time, all are found. While a guest is
// paused or suspended it neither writes nor dirties; writes that were under
// way are finished first.
//
// A guest is told its work by its config, extra = "KEY=VALUE ...":
//
//	xlsim.rate=5MiB/s       written to all disks together (1 MiB/s)
//	xlsim.writers=4         per disk (2)
//	xlsim.dirty=1MiB/s      RAM pages dirtied (1 MiB/s)
//	xlsim.suspend=ignore    does not answer a suspend request; never: and says so
//	xlsim.shutdown=ignore   does not answer a shutdown request
//
// # After a crash
//
// domains.json is renamed into place after an fsync. A domain whose process is
// gone is gone, as after a crash of the guest. An `xl` killed while it builds
// a domain leaves a paused one without CPUs; killed while it saves, it leaves
// the guest suspended (`---ss-`), both as on real Xen. So does an `xl` whose
// stderr nobody reads any more: SIGPIPE ends it before it can resume the guest.
// `xl migrate` resumes the guest until it has written GO, and from then on leaves
// it suspended as NAME--migratedaway; `xl migrate-receive` destroys its copy
// until it has read GO, unless nobody reads its answers. migrate_test.go has a
// row for each way in which that went wrong on real hosts.
// StopHost is the crash of the whole dom0.
//
// # What it does not know
//
// HVM with a device model, passthrough, block attach at run time, balloons, and everything of xmig but the grammar of
// config files. Texts for which no recording exists (restore with too little
// memory, xenstore errors) are put together from Xen's sources' habits.
package xlsim
