// Package test holds what no single package can prove: that the arrows between
// packages are as drawn, and that whole migrations survive what can go wrong.
//
//	arrows_test.go      who may import whom
//	readme_test.go      every command of README.md, run as it stands there
//	operations_test.go  the rights in docs/operations.md are those that are needed
//	cluster             a server and workers on simulated hosts, each a process
//	faults              each fault of the table, judged by evidence on both hosts
//	compose             three NATS servers, servers and nodes as containers
//	peers               the data path beside the tools that people use today
package test
