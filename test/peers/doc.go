// Command peers measures xmig's data path beside the tools that people move
// block devices with, and judges the ratios that xmig promises.
//
//	main.go      flags; builds xmig; goes into a network namespace of its own
//	machine.go   that namespace, its counters, one cgroup for each end
//	daemons.go   sshd and rsync as daemon, with keys, ports and files of their own
//	tools.go     each tool: what runs at the source, what at the destination
//	contest.go   the workloads, every tool in turn, round after round
//	extent.go    xmig alone: sizes, many disks, many lanes, the old article's machine
//	bars.go      what must hold, and whether it does
//	report.go    the table and the JSON
//
// # What is counted
//
// Wall time is that of the client, from its start to its end. CPU time is that
// of the two cgroups: children, pipes and whatever a daemon forks are in them.
// Daemons, and xmig's two processes, stand ready before the clock starts. Bytes
// on the wire are what the namespace's loopback sent, headers included; nobody
// else is in it. After every run both disks are compared byte for byte.
//
// Tools take turns within a round, so that a busy minute hits all. Ratios are of
// medians over all rounds.
package main
