// Package fleet empties and refills SIMULATED hosts, with real processes: bus,
// coordinators, workers, guests that write. It looks at what is on the hosts
// afterwards, and at the event stream: limits are held at every instant.
//
// go test runs a small fleet. The large one (six hosts, 60 guests; two minutes
// of two processors each) is drained by a command, by a command to three
// servers that die, and by an alert of the real Prometheus and Alertmanager
// (test/monitoring/install.sh):
//
//	XMIG_FLEET=60 go test ./test/fleet -run TestFleet -v -timeout 60m
//
// A storm of 200 moves, of which every tenth is struck (four minutes), and a
// server that knows 1,000 hosts:
//
//	XMIG_STORM=200 XMIG_STORM_SEED=1 go test ./test/fleet -run TestStorm -v -timeout 60m
//	XMIG_SCALE=1000 go test ./test/fleet -run 'TestScale|TestServerMemory' -v -timeout 60m
package fleet
