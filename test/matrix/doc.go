// Package matrix strikes migrations everywhere and at any time. A cell is a mode
// × a step × what is struck × before, within or after the step × how: killed,
// frozen for longer than any lease, cut off, silent, or without room on its disk.
// What is struck is a worker, the stub or the xl at either end, the control bus,
// the lane, a host's link, or a host with all that runs on it.
//
// After each cell what died is started again, the job is waited for, resolved
// where its state says so, and held against the evidence of both hosts: the guest
// runs on exactly one, whole; no record of its workload is lost; nothing is left
// that no report names.
//
//	go test ./test/matrix -v                                    how many cells there are, and why others cannot be
//	XMIG_MATRIX=list go test ./test/matrix -v                   each of them by name, with the reason
//	XMIG_MATRIX=ci go test ./test/matrix -v -timeout 60m        around the hand-over, and a sample
//	XMIG_MATRIX=all go test ./test/matrix -v -timeout 12h       all of them, over three seeds
//	XMIG_MATRIX='live/seal/source stub/within/kill' go test ./test/matrix -v
//	XMIG_MATRIX=random XMIG_MATRIX_N=1000 go test ./test/matrix -v -timeout 12h
//
// The last one moves a guest a thousand times in live, suspend and cold mode,
// each time struck by chance, some of them twice. XMIG_MATRIX=random#7 has its
// seventh course again, and names with commas between them are cells in one cluster.
//
// XMIG_MATRIX_SEED repeats a run: the sample, the order, and when within a step
// each strike comes; 1,2 are two runs. XMIG_MATRIX_PARALLEL is how many clusters
// are at work at once. After XMIG_MATRIX_TIME, such as 20m, only cells around the
// hand-over are begun, and how many others were not is said. Cells of a mode
// share a cluster, a few of them one after the other (course), whose guest goes
// back and forth.
//
// A strike that found nothing any more is a late one: it is counted, shown, and
// too many of them fail the run. The clusters are real processes on SIMULATED
// hosts (package cluster).
package matrix
