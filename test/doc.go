// Package test holds what no single package can prove: that the arrows between
// packages are as drawn, and that whole migrations survive what can go wrong.
//
//	arrows_test.go   who may import whom
//	cluster          nodes on simulated hosts in one process, or as processes
//	faults           each fault of the table, judged by evidence on both hosts
//	compose          three NATS servers, servers and nodes as containers
package test
