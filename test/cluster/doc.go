// Package cluster is a whole installation for tests: a server and workers on
// SIMULATED hosts, each a process of the real binary, with short leases and
// heartbeats; the hosts' xl is a small program of its own (xlsim), of which a
// move starts hundreds. What a test does to it is what happens to real ones: processes
// are killed and started again, and the bus is cut off from a host.
//
//	func TestMain(m *testing.M) { cluster.Main(m) }
//
//	c := cluster.New(t, cluster.Settings{})
//	vm := c.Guest(c.Hosts[0], cluster.GuestSpec{Name: "web01"})
//	c.AwaitSeen(vm, c.Hosts[0])
//	job := c.Submit(vm, c.Hosts[0], c.Hosts[1])
//	c.AwaitStep(job, jobs.Seed)
//	c.Hosts[0].Node.Kill()
//	c.Hosts[0].Node.Start()
//	c.AwaitEnd(job)
//	c.Proven(vm, c.Hosts[1], job)
//
// Every node reaches the bus through a link of its own, which can be cut:
//
//	commands and tests ─ link ─┐
//	node hv1 ─────────── link ─┼─► server
//	node hv2 ─────────── link ─┘
//	node hv1 ════ lane (not over any link) ════► node hv2
//
// Proven (evidence.go) trusts no exit code and no record: it looks at the
// guest's memory and disks, at the witness of the simulated hosts, at config
// and state directories of both hosts, and at the owner key.
//
// At a test's end all processes are ended by their process ids. If the test
// failed, logs, records and state directories stay, and the test says where;
// every error names the log to read first.
package cluster
