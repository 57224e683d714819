// Package xenlab proves that xmig moves real guests on real Xen: it is the
// suite of package moves on the lab of two emulated hosts that `lab` builds
// (README.md), and what only real hosts can show: volume groups, power cuts, a
// reboot of the guest, the disks of two hosts compared while both are held.
//
//	lab_test.go         the lab as an installation, and how it is asked
//	proven_test.go      evidence on both hosts
//	obstacles_test.go   what the checks must name
//	suite_test.go       the tests, in order
//	power_test.go       a host dies
//
// It runs inside the lab's network, by `lab suite`, and nowhere else.
package xenlab
