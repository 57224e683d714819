// Package bench measures the data path: two processes of this binary, a lane
// between them as two workers have it, and images with a known content.
//
//	workload.go  what a disk holds and what changes on it, by size and seed alone
//	stage.go     the two images of a measurement, put back after each run
//	wire.go      orders and answers between the measuring process and its two ends
//	end.go       the process at one end: `xmig bench-end`
//	transfer.go  what an end does to move disks
//	floors.go    the same bytes without xmig: TCP, TLS, a bare lane, digest, read
//	pair.go      the two processes, seen from the one that measures
//	delay.go     a TCP proxy that makes the way longer
//	usage.go     CPU time and memory of a process
//	numbers.go   medians and the line through points
//
// # What is measured
//
// CPU time is getrusage of each end, from the order to the answer: with opening
// the lane, TLS, and all that runs in a worker's process, its NATS server
// included. Memory is the peak of the whole process. Each run has two new
// processes, so that nothing is warm that is cold in a worker's first job.
//
// After each run both images are compared byte for byte by the measuring
// process. A fast copy that is wrong is an error here, not a number.
//
// # What holds after a crash
//
// An end ends when its standard input does, so when whoever measures is gone.
// Images are left where they were made.
package bench
