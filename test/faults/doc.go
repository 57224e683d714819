// Package faults is one table of what can go wrong with a migration: requests
// that cannot be met, content that is spoiled on its way, workers killed in
// each step and a bus that is away in each. A row is a cluster of its own
// (package cluster: real processes, SIMULATED hosts).
//
// A row ends with a clear error, held word by word by testdata/errors.golden,
// or the job carries on by itself. In either case the evidence on both hosts
// decides: the guest runs on exactly one, whole, and nothing half-made is left.
//
//	go test ./test/faults/             all rows
//	go test -short ./test/faults/      a third of them, each kind at least once
//	go test ./test/faults/ -run 'TestFaults/source_killed'
//	go test ./test/faults/ -update     write the golden file anew
package faults
