# The two hosts as QEMU processes, their network, and the snapshot of both
# booted. Sourced by `lab`.

hosts=(xen1 xen2)
namespace=xmig-lab
lab_address=10.99.0.254
declare -A address=([xen1]=10.99.0.1 [xen2]=10.99.0.2 [d1]=10.99.0.11 [h1]=10.99.0.12 [c1]=10.99.0.13)

# Of QEMU: emulation takes all the CPU it gets. On a machine that others load
# too, lower it: starved hosts run into the time-outs of their own scripts (40 s
# for the disks of a guest).
niceness=${XMIG_LAB_NICE:-15}

host_memory=2048 # MiB, of which dom0 gets half; the guests have the rest
vg_size=4G       # sparse

# in_lab runs a command in the lab's network.
in_lab() { ip netns exec "$namespace" "$@"; }

# net_up makes the network: a namespace with one bridge, a tap device per host,
# and no way out.
net_up() {
	ip netns list | grep -q "^$namespace\b" && return
	ip netns add "$namespace"
	in_lab ip link set lo up
	in_lab ip link add br0 type bridge
	in_lab ip addr add "$lab_address/24" dev br0
	in_lab ip link set br0 up
	local host
	for host in "${hosts[@]}"; do
		in_lab ip tuntap add "tap-$host" mode tap
		in_lab ip link set "tap-$host" up master br0
	done
}

# launch HOST [QEMU-OPTION...] starts the host's QEMU and returns when it is
# there. Disks are raw and cache=unsafe: what a guest wrote is in this
# machine's page cache, so it survives the death of QEMU (but not of this
# machine).
#
# Only software emulation will do: under KVM Xen fails early, and with
# -cpu max its dom0 does. +npt gives the hosts HAP, which PVH guests need.
launch() {
	local host=$1 n=${1#xen}
	shift
	local xen="console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all noreboot spec-ctrl=no xpti=no"
	xen+=" dom0_mem=$((host_memory / 2))M,max:$((host_memory / 2))M dom0_max_vcpus=1"
	# Commas part the modules in -initrd, so there can be none in a command line.
	local linux="root=/dev/vda rw console=hvc0 mitigations=off net.ifnames=0 rcupdate.rcu_expedited=1 cryptomgr.notests lab.host=$host"
	in_lab nice -n "$niceness" qemu-system-x86_64 -name "$host" -daemonize -pidfile "$run/$host.pid" \
		-accel tcg,thread=multi,tb-size=256 -cpu qemu64,+svm,+npt -M pc -smp 1 -m "$host_memory" \
		-nodefaults -no-reboot -display none \
		-serial "file:$run/$host.console" -monitor "unix:$run/$host.monitor,server,nowait" \
		-kernel "$cache/xen" -append "$xen" -initrd "$cache/vmlinuz $linux,$cache/initrd" \
		-drive "file=$run/$host.root,if=none,id=root,format=raw,cache=unsafe" -device virtio-blk-pci,drive=root \
		-drive "file=$run/$host.data,if=none,id=data,format=raw,cache=unsafe,discard=unmap" -device virtio-blk-pci,drive=data \
		-netdev "tap,id=net,ifname=tap-$host,script=no,downscript=no" \
		-device "virtio-net-pci,netdev=net,mac=52:54:00:99:00:0$n,romfile=" \
		-device virtio-rng-pci "$@"
}

# monitor HOST COMMAND asks the host's QEMU.
monitor() { echo "$2" | socat -t 10 - "UNIX-CONNECT:$run/$1.monitor" | tr -d '\r'; }

# alive HOST: its QEMU runs. The pid in the file may be another process's by now.
alive() {
	local pid
	pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
	tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -- "-name $1 .*-pidfile $run/$1.pid "
}

# end HOST kills its QEMU, as a power cut would, and waits until it is gone.
end() {
	hang_up "$1"
	alive "$1" || return 0
	kill -KILL "$(cat "$run/$1.pid")"
	within 30 "the end of $1" not alive "$1"
	rm -f "$run/$1.pid"
}

# on HOST COMMAND... runs a command there, as root. One connection is kept: a
# login costs seconds under emulation.
on() {
	local host=$1
	shift
	in_lab ssh -q -i "$cache/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=20 \
		-o ServerAliveInterval=15 -o ServerAliveCountMax=8 \
		-o ControlMaster=auto -o ControlPersist=yes -o ControlPath="$run/$host.ssh" "root@${address[$host]:-$host}" "$@"
}

# hang_up HOST closes the kept connection.
hang_up() { [ ! -S "$run/$1.ssh" ] || ssh -q -O exit -o ControlPath="$run/$1.ssh" "$1" 2>/dev/null || true; }

answers() { on "$1" true </dev/null 2>/dev/null; }

# wait_boot HOST returns when all services of a host that boots are up.
wait_boot() {
	within 600 "ssh on $1 (its console: $run/$1.console)" answers "$1"
	on "$1" 'systemctl is-system-running --wait >/dev/null; systemctl --no-pager --failed --plain --no-legend; xl info >/dev/null' </dev/null |
		{ ! grep .; } || fail "$1: these services failed"
}

# first_boot boots both hosts from the fresh image and freezes them, into the
# cache.
first_boot() {
	local host
	for host in "${hosts[@]}"; do
		cp --sparse=always --reflink=auto "$cache/dom0.raw" "$run/$host.root"
		rm -f "$run/$host.data"
		truncate -s "$vg_size" "$run/$host.data"
		launch "$host"
	done
	say "both hosts boot"
	for host in "${hosts[@]}"; do wait_boot "$host"; done
	say "both hosts are up; freezing them"
	for host in "${hosts[@]}"; do
		on "$host" sync </dev/null
		hang_up "$host"
		freeze "$host"
	done
	for host in "${hosts[@]}"; do
		within 300 "the frozen $host" frozen "$host"
		end "$host"
		cp --sparse=always --reflink=auto "$run/$host.root" "$run/$host.data" "$cache/"
		mv "$run/$host.frozen" "$cache/$host.frozen"
	done
}

# freeze HOST begins to write its memory and devices to a file.
freeze() {
	monitor "$1" stop >/dev/null
	monitor "$1" 'migrate_set_parameter max-bandwidth 10G' >/dev/null
	monitor "$1" "migrate -d \"exec:zstd -q -1 -f -o $run/$1.frozen\"" >/dev/null
}

frozen() { monitor "$1" 'info migrate' | grep -q '^Migration status: completed'; }

# thaw starts both hosts from the cache as they were when they were frozen.
thaw() {
	local host
	for host in "${hosts[@]}"; do
		cp --sparse=always --reflink=auto "$cache/$host.root" "$cache/$host.data" "$run/"
		launch "$host" -incoming "exec:zstd -q -d -c $cache/$host.frozen"
	done
	for host in "${hosts[@]}"; do
		within 300 "the thawed $host" thawed "$host"
	done
	for host in "${hosts[@]}"; do monitor "$host" cont >/dev/null; done
	for host in "${hosts[@]}"; do
		within 120 "ssh on $host (its console: $run/$host.console)" answers "$host"
		on "$host" "date -u -s @$(date +%s)" </dev/null >/dev/null # it slept
	done
}

thawed() { monitor "$1" 'info status' | grep -q 'paused$\|paused (prelaunch)\|paused (postmigrate)' && ! monitor "$1" 'info status' | grep -q inmigrate; }
