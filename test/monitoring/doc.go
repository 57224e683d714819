// Package monitoring is what watches a machine room, beside a cluster of
// package cluster: the real Prometheus and Alertmanager of Debian (install.sh),
// and an exporter of disks that fail when a test says so.
package monitoring
