// Package metrics tells Prometheus what a server and a worker know. A server
// tells how things stand: jobs, hosts, drains, alerts. A worker tells what its
// jobs cost; it counts those that it drove itself, so that a sum over all
// workers counts each job once.
//
//	names.go   the one list: what there is, by name, labels and meaning
//	server.go  how things stand, looked at when Prometheus asks
//	worker.go  what jobs cost, counted as their records change
//
// Names follow Prometheus's rules: counters end in _total, units are in the
// name. No job and no VM is a label.
//
// # What holds after a crash
//
// Counters start at zero, as Prometheus expects. A job that ended before the
// start is not counted; what a job did until then is not counted twice.
package metrics
