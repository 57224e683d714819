# Programs of ours: built here, run in the lab's network or on its hosts.
# Sourced by `lab`.

bus_port=4222

# build_program NAME PACKAGE builds one for the hosts: their CPU has nothing
# beyond plain x86-64.
build_program() {
	(cd "$here/../.." && GOAMD64=v1 nice -n 15 go build -trimpath -tags netgo,osusergo -ldflags '-s -w -extldflags=-static' -o "$run/$1" "$2")
}

# start_program NAME ARGUMENT... runs a program of ours in the lab's network,
# anew if it runs already.
start_program() {
	local name=$1
	shift
	stop_program "$name"
	# exec all the way: the pid must be the program's own.
	{ exec ip netns exec "$namespace" setsid "$run/$name" "$@" >>"$run/$name.log" 2>&1 </dev/null; } &
	echo $! >"$run/$name.pid"
}

# program_runs NAME: the pid in its file is still that program's.
program_runs() {
	local pid
	pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
	# The name in front: a program that was built anew runs as "... (deleted)".
	[[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$run/$1"* ]]
}

stop_program() {
	program_runs "$1" || return 0
	kill "$(cat "$run/$1.pid")"
	within 30 "the end of $1 (process $(cat "$run/$1.pid"))" not program_runs "$1"
	rm -f "$run/$1.pid"
}

programs=(lab-guest xmig)

stop_programs() {
	local name
	for name in "${programs[@]}"; do stop_program "$name"; done
}

program_status() {
	local name
	for name in "${programs[@]}"; do
		if program_runs "$name"; then echo "$name: process $(cat "$run/$name.pid"), log $run/$name.log"; else echo "$name: does not run"; fi
	done
}

# deploy builds xmig and starts it everywhere: the server beside the hosts, so
# that it survives them, and a node on each.
deploy() {
	local host
	build_program xmig ./cmd/xmig
	build_program lab-guest ./test/xenlab/guest
	say "xmig is built"
	start_program xmig server --state-dir "$run/server" --listen "$lab_address:$bus_port" --node-ttl 60s
	for host in "${hosts[@]}"; do
		push "$run/xmig" "$host:/usr/local/bin/xmig"
		push "$run/lab-guest" "$host:/usr/local/bin/lab-guest"
		on "$host" systemctl restart xmig-node </dev/null
	done
	within 60 "the server (its log: $run/xmig.log)" "$run/xmig" server --state-dir "$run/server" --health >/dev/null
	for host in "${hosts[@]}"; do
		within 120 "the node on $host ($here/lab ssh $host journalctl -u xmig-node)" on "$host" xmig node --health </dev/null >/dev/null
	done
	say "a server at nats://$lab_address:$bus_port, a node on ${hosts[*]}"
}
