// Package fleet empties and refills SIMULATED hosts, with real processes: bus,
// coordinators, workers, guests that write. It looks at what is on the hosts
// afterwards, and at the event stream: limits are held at every instant.
//
// go test runs a small fleet. The large one (six hosts, 60 guests; several
// minutes of two processors):
//
//	XMIG_FLEET=60 go test ./test/fleet -run TestFleet -v -timeout 60m
package fleet
