// Command xmig migrates Xen domUs with local disks between dom0s.
//
// One binary is the whole installation: the coordinator with its bus (server),
// the worker on a dom0 (node), and the command line for people (all others).
// This package composes: it parses flags, opens connections, hands packages to
// each other, and writes what package show makes of the outcome. It decides
// nothing about migrations.
//
//	main.go      what happens before flags are parsed, and the exit code
//	cli.go       the grammar: one struct, one field per command
//	<command>.go one file per command
//	exit.go      exit codes: the one list
//	settings.go  the config file: the same names as flags
//	wire.go      the coordinator's verbs
//	follow.go    a job followed to its end, on a terminal or on a pipe
//	show/        text for people, pure
//	bench/       the data path measured: two processes and a lane between them
//	demo*.go     a whole installation in one process, that proves itself
//
// # What holds after a crash
//
// Nothing here is durable. A command that is interrupted leaves the job that
// it submitted as it is: records on the bus and journals on the hosts are the
// truth. `xmig server` and `xmig node` may be killed at any time and started
// again.
//
// # Output
//
// Results go to stdout, everything else to stderr. Errors are one line each,
// "xmig: …"; blockers are a line each. With -o json stdout is JSON alone. On a
// terminal jobs are shown by bars; elsewhere by lines of key=value, without
// colour. NO_COLOR is honoured: there is no colour at all.
package main
