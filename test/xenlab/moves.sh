# Moves on real Xen: each guest there and back, and a look at it after each move.

# at_xmig runs xmig at the lab's bus.
at_xmig() {
	XMIG_NATS="nats://$lab_address:$bus_port" XMIG_TIMEOUT=${XMIG_TIMEOUT:-60s} in_lab "$run/xmig" "$@"
}

# host_of tells where a guest runs.
host_of() { at_xmig vm show "$1" -o json | sed -n 's/^  "host": "\(.*\)",$/\1/p'; }

# well waits until the guest answers and all that it remembers is right: a
# guest that was moved cold has to boot first.
well() {
	local try
	for try in {1..60}; do
		if in_lab "$run/lab-guest" ask "${address[$1]}" verify >"$run/$1.verify" 2>&1; then
			grep -q '"Bad":null' "$run/$1.verify" || fail "$1 is damaged: $(cat "$run/$1.verify")"
			return
		fi
		sleep 3
	done
	fail "$1 does not answer: $(cat "$run/$1.verify")"
}

# move sends one guest to the other host and looks at both.
move() {
	local guest=$1 mode=$2 from to
	from=$(host_of "$guest")
	case $from in
	xen1) to=xen2 ;;
	xen2) to=xen1 ;;
	*) fail "$guest is on ${from:-no host}" ;;
	esac
	at_xmig submit "$guest" --to "$to" --mode "$mode" --max-downtime 10m --wait >"$run/$guest.move" ||
		fail "$guest from $from to $to by $mode: $(tail -n 20 "$run/$guest.move")"
	well "$guest"
	on "$to" "test -e /etc/xen/$guest.cfg && test -L /etc/xen/auto/$guest.cfg" </dev/null || fail "$guest has no config or link on $to"
	on "$from" "test ! -e /etc/xen/$guest.cfg && test ! -L /etc/xen/auto/$guest.cfg && ! xl domid $guest" </dev/null >/dev/null 2>&1 ||
		fail "$guest has a config, a link or a domain left on $from"
	say "$guest went from $from to $to by $mode: $(grep -o 'measured [^,]*' "$run/$guest.move" | tail -n 1) of blackout, nothing lost"
}

# moves takes the modes to move by, suspend if none is named.
moves() {
	local guest mode
	for mode in "${@:-suspend}"; do
		for guest in d1 h1; do
			move "$guest" "$mode" # there
			move "$guest" "$mode" # and back
		done
	done
	"$run/lab-guest" gaps -since 2h "$run/beats" # fails if two copies ever ran
}
