// Package alerts shows on a whole installation that an alert empties a host:
// its tests post it themselves, or have the real Prometheus and Alertmanager of
// Debian do so (XMIG_ALERTS=1, see test/monitoring/install.sh).
package alerts
