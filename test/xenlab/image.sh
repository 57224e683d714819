# The image that both hosts boot. Sourced by `lab`.

suite=bookworm # Xen 4.17
dom0_packages=(
	systemd-sysv udev kmod dbus linux-image-amd64 initramfs-tools zstd
	xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common qemu-system-xen
	lvm2 thin-provisioning-tools dmsetup
	openssh-server openssh-client iproute2 iputils-ping
	e2fsprogs util-linux fdisk procps strace bsdextrautils less
	busybox-static
)
# What no host of the lab needs, and what takes most of the time to unpack.
left_out=(
	'/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*'
	'/lib/modules/*/kernel/drivers/'{gpu,media,infiniband,isdn,staging,usb,bluetooth,iio,hwmon,mmc,target,scsi,ata,hid,input,thunderbolt}'/*'
	'/lib/modules/*/kernel/drivers/net/'{ethernet,wireless,usb,can,hamradio,phy,fddi,wan}'/*'
	'/lib/modules/*/kernel/'{sound,net/bluetooth,net/mac80211,net/wireless}'/*'
)
guest_modules=(crc16 mbcache crc32c_generic libcrc32c jbd2 ext4 xen-blkfront xen-netfront)

# build_image makes DIR/{dom0.raw,xen,vmlinuz,initrd,key,busybox}.
build_image() {
	local dir=$1 root=$1/root
	say "building the image of both hosts (Debian $suite)"
	bootstrap "$root" >"$dir/build.log" 2>&1 || fail "mmdebstrap: see $dir/build.log"
	configure_dom0 "$dir" "$root" >>"$dir/build.log" 2>&1
	make_guest_boot "$root" >>"$dir/build.log" 2>&1
	zcat "$root/boot/xen-4.17-amd64.gz" >"$dir/xen"
	cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
	cp "$root"/boot/initrd.img-* "$dir/initrd"
	cp "$root/bin/busybox" "$dir/busybox"
	truncate -s 2G "$dir/dom0.raw"
	mke2fs -q -t ext4 -L dom0 -E lazy_itable_init=0,discard -d "$root" "$dir/dom0.raw"
	rm -rf "$root"
}

# sources lists where packages come from: as this machine's own apt has it, or
# the lines of the file XMIG_LAB_SOURCES.
sources() {
	if [ -n "${XMIG_LAB_SOURCES:-}" ]; then
		cat "$XMIG_LAB_SOURCES"
	else
		apt-get indextargets --format 'deb $(SITE) $(RELEASE) main' 'Created-By: Packages' | grep " $suite" | sort -u
	fi
}

bootstrap() {
	local options=() path lines
	mapfile -t lines < <(sources)
	[ "${#lines[@]}" -gt 0 ] || fail "apt of this machine knows no $suite: name a file of its sources in XMIG_LAB_SOURCES"
	for path in "${left_out[@]}"; do options+=(--dpkgopt="path-exclude=$path"); done
	nice -n 15 mmdebstrap --mode=root --variant=minbase --include="$(IFS=,; echo "${dom0_packages[*]}")" \
		--aptopt='Apt::Install-Recommends "false"' --dpkgopt=force-unsafe-io "${options[@]}" \
		"$suite" "$1" "${lines[@]}"
}

# configure_dom0 lays the files under dom0/ over the image and fits its services.
configure_dom0() {
	local dir=$1 root=$2
	rm -f "$root/etc/hostname"
	cp -r "$here/dom0/." "$root/"
	chmod 700 "$root/root/.ssh"
	ssh-keygen -q -t ed25519 -N '' -C xmig-lab -f "$dir/key"
	install -m 600 "$dir/key" "$root/root/.ssh/id_ed25519"
	install -m 600 "$dir/key.pub" "$root/root/.ssh/authorized_keys"
	chroot "$root" passwd -q -d root
	chroot "$root" systemctl -q enable lab-setup.service xmig-node.service
	# The timers only cost time.
	chroot "$root" systemctl -q mask systemd-timesyncd.service \
		apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
		fstrim.timer getty@tty1.service lvm2-monitor.service dm-event.socket
	# Each guest's console goes to /var/log/xen/console/guest-NAME.log.
	mkdir -p "$root/var/log/xen/console"
	echo 'XENCONSOLED_ARGS="--log=guest"' >>"$root/etc/default/xen"
	chroot "$root" update-initramfs -u -k all
}

# make_guest_boot puts kernel and initrd of the guests into the image, under
# the same path on both hosts: a guest's config names them.
make_guest_boot() {
	local root=$1 boot=$1/boot/guest tree module
	tree=$(mktemp -d)
	mkdir -p "$boot" "$tree"/{bin,dev,proc,new,modules}
	cp "$here/guest/initrd/init" "$tree/init"
	cp "$root/bin/busybox" "$tree/bin/"
	for module in "${guest_modules[@]}"; do
		find "$root/lib/modules" -name "$module.ko" -exec cp {} "$tree/modules/" \;
	done
	printf '%s\n' "${guest_modules[@]}" >"$tree/modules/order"
	(cd "$tree" && find . | cpio --quiet -o -H newc) | gzip -1 >"$boot/initrd"
	cp "$root"/boot/vmlinuz-* "$boot/vmlinuz"
	rm -rf "$tree"
}
