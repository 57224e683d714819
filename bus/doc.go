// Package bus is everything that xmig does with NATS: the embedded server,
// connecting, job records, owner keys, the work queue, leases, presence, calls
// between nodes, events, and the lanes that carry disks and memory.
//
// # Names
//
// One table of all that is on the wire; "xmig" is the settable prefix.
//
//	stream XMIG_JOBS     work queue     xmig.job.<node>.<vm>            body: job id. One message per subject: one job per VM
//	stream XMIG_EVENTS   limits, 30 d   xmig.event.{job|host|vm|alert}.<id>.<what>
//	stream XMIG_DEAD     limits, 30 d   advisories of doorbells that were given up
//	bucket xmig_jobs     history 10     <source-node>.<job>             the record, the truth about a job
//	bucket xmig_vms      no end         <vm-uuid>                       owner, epoch, attempt, claim; generation in its metadata
//	bucket xmig_fleet    no end         {host|vm|job|incident|mute}.<id>  cordons and drains, pins and groups, wishes, answers to alerts
//	bucket xmig_leases   ttl 30 s       <key>                           who acts
//	bucket xmig_nodes    ttl 30 s       <node>                          heartbeat of a living host: what is other than in its inventory
//	bucket xmig_inventory no end        <node>                          all of a host, written when much of it changed
//	plain  xmig.alert.post              a webhook's JSON; answered by one server, if a reply is asked for
//	plain  xmig.progress.<job>          bars; never stored
//	calls  xmig.node.<node>.<verb>      nats micro, one instance per node
//	calls  xmig.coordinator.<verb>      nats micro, queue group: any of them
//	lane   streams LANE_<job>_{chunk|digest}  xmig.lane.<job>.<opening>.{chunk|digest}, plain ….{source|destination}.{credit|intake}
//
// Node names are 1 to 32 of a-z, 0-9 and -; a VM is its UUID; a job is a
// ULID. Permissions gives the rights of a node's user. Names with a host's
// token in front (records, queue, presence) can be written by that host only.
//
// # What holds after a crash
//
// A record or owner key changes only by compare-and-swap on its revision. A
// write whose answer was lost is made again until its outcome is known, so
// that a caller sees one of three ends: it is written, somebody else was
// first (jobs.ErrConflict), or nobody knows (jobs.ErrAway, when the caller's
// context ended first). Revisions are never used twice, not even by a store
// that was lost and made anew: its first revision is the time of its making.
//
// The embedded server acknowledges after fsync. Other servers must be set to
// `sync_interval: always`; nothing here can see whether they are.
//
// A doorbell is given to a worker at least once; it proves nothing. A lease
// is trusted for two thirds of its time from the start of its last renewal,
// and is no fence; the coordinator's is the key "office" beside the records. A read is no proof: to be sure of an owner key, swap it
// with itself.
//
// A lane lives in the memory of the destination's process. It is lost with
// that process, with its connection, or with one frame; then both ends know
// (blocksync.ErrLaneLost) and a new lane is opened. What arrived before it
// was lost is for blocksync to know, not for the lane.
//
// # What it does not know
//
// Steps and policy (jobs decides), xl and devices (node), what a frame means
// (blocksync). JetStream domains are not supported: the streams are in the
// account and domain that the connection lands in.
package bus
