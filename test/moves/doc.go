// Package moves is what every installation must hold, whatever its toolstack:
// one suite that runs against simulated hosts here, and against real Xen in
// package xenlab. Where the two differ, the simulation is wrong.
//
//	installation.go   what the suite wants of an installation
//	suite.go          the cases
//	watch.go          following a job, and striking it in a step
package moves
