// Package show turns jobs, hosts and VMs into text for people: tables, bars,
// lines and reports.
//
//	values of jobs ──► show ──► text ──► the command writes it
//
// Everything here is a pure function of its arguments: it reads no clock, no
// terminal and no environment, so that golden files say what people will see.
// Who calls it decides between a terminal (bars, Screen) and a pipe (one line
// per step, key=value, no colour). Machines get the values themselves as JSON,
// with the field names that records have on the bus.
//
// # Units
//
// Sizes are binary (KiB, MiB, GiB), rates are per second, times are rounded to
// what a person can use. Times of day are UTC in RFC 3339.
//
// # What it does not know
//
// Where the values come from, and what a command does with its exit code.
package show
