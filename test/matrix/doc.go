// Package matrix strikes a migration everywhere and at any time, one cell at a
// time: a step × what is struck × before, within or after the step × how.
// After each cell what died is started again, the job is waited for, resolved
// where its state says so, and held against the evidence of both hosts: the guest
// runs on exactly one, whole; no record of its workload is lost; nothing is left
// that no report names.
//
//	go test ./test/matrix                                     the cells that there are, and why others cannot be
//	XMIG_MATRIX=ci go test ./test/matrix -timeout 20m         around the hand-over, and a sample
//	XMIG_MATRIX=all go test ./test/matrix -timeout 6h         all of them
//	XMIG_MATRIX='seal/source worker/within/kill' go test ./test/matrix
//	XMIG_MATRIX=random XMIG_MATRIX_N=1000 go test ./test/matrix -timeout 24h
//
// XMIG_MATRIX_SEED repeats a run: the sample, and when within a step each
// strike comes. XMIG_MATRIX_PARALLEL is how many cells are at work at once.
// The clusters are real processes on SIMULATED hosts (package cluster).
package matrix
