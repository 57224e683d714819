#!/bin/sh
# What TestAlertmanager needs: Prometheus, promtool and Alertmanager of Debian.
# Nothing is started by it: the test runs them on ports of its own.
set -eu
command -v prometheus >/dev/null && command -v prometheus-alertmanager >/dev/null && command -v promtool >/dev/null && exit 0
# The packages would start daemons; this machine's are not ours to start.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends prometheus prometheus-alertmanager >/dev/null
