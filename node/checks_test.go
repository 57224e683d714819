package node

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"xmig/jobs"
	"xmig/xen/xlsim"
)

// lines are blockers for people, with the paths of the test shortened.
func lines(h *host, all []jobs.Blocker) string {
	short := strings.NewReplacer(h.etc("")+",", "ETC,", h.sim+"/", "/", h.w.dir+"/", "/")
	var out []string
	for _, b := range all {
		out = append(out, b.Code+": "+short.Replace(b.String()))
	}
	return strings.Join(out, "\n")
}

// freeSpace is what differs from machine to machine.
var freeSpace = regexp.MustCompile(`file system \S+ \(\S+\) has \d+ MiB`)

// writer is a process that has a file open for writing until the test ends.
func writer(t *testing.T, path string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "exec 3<>\"$1\"; echo open; read end", "sh", path)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() }) // read fails at the end of its input, as it should
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestBlockersAtTheSource: every reason against a move there, word for word.
func TestBlockersAtTheSource(t *testing.T) {
	w := newWorld(t)
	b := w.host("b")
	for i, c := range []struct {
		name   string
		halted bool
		guest  xlsim.GuestSpec
		mode   jobs.Mode
		do     func(a *host)
		want   string // %d is the writer's process id
	}{
		{name: "nothing"},
		{name: "nothing against a halted one", halted: true},
		{name: "paused", do: func(a *host) { a.xl("pause", "web01") },
			want: "state: a: vm web01 is paused (unpause it (`xl unpause web01`) or shut it down first)"},
		{name: "shut down and kept", guest: xlsim.GuestSpec{Extra: []string{`on_poweroff = "preserve"`}}, do: func(a *host) {
			a.xl("shutdown", "web01")
			vm := jobs.VMRef{Name: "web01", UUID: a.uuid}
			eventually(a.w.t, "the guest shuts down", func() bool { return a.state(vm) == jobs.VMOther })
		},
			want: "state: a: vm web01 is in state other (look at `xl list` and end it first)"},
		{name: "broken config", do: func(a *host) { write(a.w.t, a.etc("web01.cfg"), "name = 'web01'\nmemory = \n") },
			want: "config: a: /etc-xen/web01.cfg: line 2, column 10: end of line where a value should begin (want a string in quotes, a number or a [ list ]) (mend it, or leave just one config that names the VM)"},
		{name: "two configs", halted: true, do: func(a *host) { write(a.w.t, a.etc("copy.cfg"), read(a.w.t, a.etc("web01.cfg"))) },
			want: "config: a: vm web01: 2 configs describe it, leave one: /etc-xen/copy.cfg, /etc-xen/web01.cfg (mend it, or leave just one config that names the VM)"},
		{name: "no config, cold", mode: jobs.Cold, do: func(a *host) {
			must(a.w.t, os.Remove(a.etc("web01.cfg")))
		}, want: "config: a: vm web01 has no config file to boot from after its shutdown (write one into ETC, or submit with --mode suspend)"},
		{name: "autostart directory", do: func(a *host) {
			must(a.w.t, os.RemoveAll(a.etc("auto")))
			write(a.w.t, a.etc("auto"), "")
		}, want: "config: a: autostart links: open /etc-xen/auto: not a directory (mend the config directory)"},
		{name: "unreadable kernel", guest: xlsim.GuestSpec{Extra: []string{`kernel = "/proc"`}}, halted: true,
			want: "boot_file: a: kernel /proc: /proc is no regular file (make it readable)"},
		{name: "saved image", do: func(a *host) {
			write(a.w.t, filepath.Join(a.cfg.SaveDir, "web01"), "")
			write(a.w.t, filepath.Join(a.cfg.SaveDir, "web012"), "") // another VM's
		}, want: "saved_image: a: a saved image of vm web01 lies at /save/web01 (remove it, or a later boot of this host restores it against newer disks)"},
		{name: "no suspend", guest: xlsim.GuestSpec{Extra: []string{`extra = "xlsim.suspend=never"`}},
			want: "suspend: a: the guest says that it does not suspend (control/feature-suspend is 0) (submit with --mode cold)"},
		{name: "no suspend, cold", guest: xlsim.GuestSpec{Extra: []string{`extra = "xlsim.suspend=never"`}}, mode: jobs.Cold},
		{name: "a disk of the config alone", do: func(a *host) {
			must(a.w.t, xlsim.MakeDisk(a.disks("more"), mib, xlsim.Mix{}))
			write(a.w.t, a.etc("web01.cfg"), read(a.w.t, a.etc("web01.cfg"))+"disk += [ '"+a.disks("more")+",raw,xvdb,rw', ',hdc:cdrom,r' ]\n")
		}, want: "disk_detached: a: disk xvdb: config /etc-xen/web01.cfg has /disks/more, the guest has not: it would not move (attach it, or take it out of the config)"},
		{name: "other backends", halted: true, guest: xlsim.GuestSpec{Extra: []string{"disk += [ 'drbd:app01,xvdb,w', 'backend=stor,vdev=xvdc,target=/dev/vg/x' ]"}},
			want: "backend: a: disk xvdb: app01 is served by block-drbd (move the VM by other means: where the disk is, only that backend knows)\n" +
				"backend: a: disk xvdc: /dev/vg/x is served by domain stor (move the VM by other means: where the disk is, only that backend knows)\n" +
				"disk: a: disk xvdb: \"app01\" is not an absolute path: not a regular file or block device (detach it, or bring it back)\n" +
				"disk: a: disk xvdc: /dev/vg/x: volume does not exist (detach it, or bring it back)"},
		{name: "passthrough", halted: true, guest: xlsim.GuestSpec{Extra: []string{"pci = [ '01:00.0', '01:00.1' ]"}},
			want: "passthrough: a: config /etc-xen/web01.cfg gives the VM 2 PCI devices of this host (take them out of the config)"},
		{name: "USB device and vTPM", halted: true, guest: xlsim.GuestSpec{Extra: []string{"usbdev = [ 'hostbus=1,hostaddr=3' ]", "vtpm = [ 'backend=vtpm0' ]"}},
			want: "passthrough: a: config /etc-xen/web01.cfg gives the VM 1 USB devices of this host (take them out of the config)\n" +
				"vtpm: a: config /etc-xen/web01.cfg gives the VM 1 vTPMs, whose secrets lie in another domain of this host (take them out of the config)"},
		{name: "nomigrate", guest: xlsim.GuestSpec{Extra: []string{"nomigrate = 1"}},
			want: "nomigrate: a: vm web01 may not be migrated: its config says nomigrate (submit with --mode cold)"},
		{name: "nomigrate, cold", guest: xlsim.GuestSpec{Extra: []string{"nomigrate = 1"}}, mode: jobs.Cold},
		{name: "libvirt's", halted: true, do: func(a *host) { write(a.w.t, filepath.Join(a.sim, "libvirt", "web01.xml"), "") },
			want: "managed: a: vm web01 belongs to libvirt (/libvirt/web01.xml is there) (move it by libvirt, or take it out of there (`virsh undefine`) and start it by xl)"},
		{name: "XAPI's", halted: true, do: func(a *host) { write(a.w.t, filepath.Join(a.sim, "xensource-inventory"), "") },
			want: "managed: a: this host belongs to XAPI (/xensource-inventory is there) (move it by XAPI (`xe vm-migrate`))"},
		{name: "disk gone", halted: true, do: func(a *host) { must(a.w.t, os.Remove(a.disks("web01-xvda"))) },
			want: "disk: a: disk xvda: /disks/web01-xvda: volume does not exist (detach it, or bring it back)"},
		{name: "disk written to by somebody", halted: true, do: func(a *host) { a.pid = writer(a.w.t, a.disks("web01-xvda")) },
			want: "disk_in_use: a: disk xvda: /disks/web01-xvda: opened for writing (pid %d, sh) (end that use first: two writers would spoil the disk)"},
		{name: "disk of another guest", halted: true, do: func(a *host) {
			_, err := xlsim.WriteGuestConfig(a.disks(""), xlsim.GuestSpec{Name: "thief", MemoryMiB: 8, Rate: -1, Disks: []xlsim.GuestDisk{{Path: a.disks("web01-xvda"), Vdev: "xvda"}}})
			must(a.w.t, err)
			a.xl("create", "-q", a.disks("thief.cfg"))
		}, want: "disk_shared: a: disk xvda: /disks/web01-xvda is attached to domain 1 too (detach it there)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := w.dir
			w.dir = filepath.Join(dir, fmt.Sprint(i))
			a := w.host("a")
			w.dir = dir
			c.guest.Name = "web01"
			make := a.guest
			if c.halted {
				make = a.config
			}
			vm := make(c.guest, mib)
			a.uuid = vm.UUID
			if c.do != nil {
				c.do(a)
			}
			if c.mode == "" {
				c.mode = jobs.Suspend
			}
			guest, blockers, err := a.src.Inspect(w.ctx, newJob(a, b, vm, c.mode, 1))
			must(t, err)
			want := c.want
			if strings.Contains(want, "%d") {
				want = fmt.Sprintf(want, a.pid)
			}
			if c.name == "disk of another guest" && len(blockers) > 1 {
				blockers = blockers[:1] // its process is seen too, by an id that nobody knows here
			}
			equal(t, "blockers", lines(a, blockers), want)
			if want == "" && (guest.Name != "web01" || len(guest.ConfigText) == 0 || guest.AutostartText != "../web01.cfg" || guest.ConfigMode != 0o644 || guest.Disks[0].Size != mib) {
				t.Errorf("guest %+v", guest)
			}
		})
	}
}

// TestInspectFails: a toolstack that fails is tried again and no blocker.
func TestInspectFails(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	vm := a.guest(xlsim.GuestSpec{Name: "web01"}, mib)
	job := newJob(a, b, vm, jobs.Suspend, 1)
	for _, command := range []string{"list", "info", "xenstore-ls"} {
		fault(t, a, command, "boom")
		_, blockers, err := a.src.Inspect(w.ctx, job)
		refused(t, err, "boom")
		if jobs.ClassOf(err) != jobs.Retry || jobs.CodeOf(err) != jobs.CodeToolstack || len(blockers) > 0 {
			t.Errorf("%s: %v, %v", command, err, blockers)
		}
	}
	job = planned(t, a, b, job)
	for _, command := range []string{"list", "info", "xenstore-ls"} {
		fault(t, b, command, "boom")
		_, err := b.dst.Check(w.ctx, job)
		refused(t, err, "boom")
		equal(t, command+": class", jobs.ClassOf(err), jobs.Retry)
	}
	job.VM.UUID = "5eed0000-0000-4000-8000-0000000000ff"
	_, _, err := a.src.Inspect(w.ctx, job)
	refused(t, err, "vm web01 is not on a any more")
	equal(t, "class", jobs.ClassOf(err), jobs.Final)
}

// TestBlockersAtTheDestination: every reason against a move there, word for word.
func TestBlockersAtTheDestination(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	vm := a.config(xlsim.GuestSpec{Name: "web01", MemoryMiB: 64, Bridge: "xenbr0", Extra: []string{"# the end"}}, mib, mib)
	create := func(b *host, spec xlsim.GuestSpec) {
		spec.MemoryMiB, spec.Rate = 8, -1
		_, err := xlsim.WriteGuestConfig(b.disks(""), spec)
		must(t, err)
		b.xl("create", "-q", "-p", b.disks(spec.Name+".cfg"))
	}
	const doubled = "disk=['/x,,xvda,w!']" // what is wrong about it, xen says
	_, unmapped := mapConfig([]byte(doubled), jobs.Job{})
	const other = "(map another: --map disk=/a/disks/web01-xvda:PATH)"
	for i, c := range []struct {
		name string
		host func(*xlsim.HostSpec)
		do   func(b *host, job *jobs.Job)
		want string
	}{
		{name: "nothing"},
		{name: "UUID", do: func(b *host, job *jobs.Job) { create(b, xlsim.GuestSpec{Name: "clone", UUID: vm.UUID}) },
			want: "uuid_taken: b: domain 1 (clone) has the VM's UUID " + vm.UUID + " (look at both hosts: it must run on one only)"},
		{name: "name", do: func(b *host, job *jobs.Job) { create(b, xlsim.GuestSpec{Name: "web01"}) },
			want: "name_taken: b: domain 1 is called web01 too (rename or end it)"},
		{name: "half a migration", do: func(b *host, job *jobs.Job) { create(b, xlsim.GuestSpec{Name: "web01--incoming"}) },
			want: "name_taken: b: web01--incoming is left from an earlier migration (domain 1) (destroy it if no migration runs)"},
		{name: "libvirt's", do: func(b *host, job *jobs.Job) { write(t, filepath.Join(b.sim, "libvirt", "web01.xml"), "") },
			want: "managed: b: vm web01 belongs to libvirt (/libvirt/web01.xml is there) (move it by libvirt, or take it out of there (`virsh undefine`) and start it by xl)"},
		{name: "other sectors", do: func(b *host, job *jobs.Job) { job.Plan.Disks[0].Sector = 4096 },
			want: "volume: b: disk xvda: /disks/web01-xvda has sectors of 512 bytes, the disk at the other end of 4096: partition tables and file systems of the guest would not fit: volume does not fit (map another: --map disk=/a/disks/web01-xvda:PATH)"},
		{name: "memory", host: func(s *xlsim.HostSpec) { s.MemoryMiB, s.Dom0MiB = 512, 480 },
			do:   func(b *host, job *jobs.Job) { job.Plan.Guest.State = jobs.VMRunning },
			want: "memory: b: 32 MiB are free (0 MiB held for other moves), vm web01 needs 65 MiB (free memory there, or name another host)"},
		{name: "memory of a halted guest", host: func(s *xlsim.HostSpec) { s.MemoryMiB, s.Dom0MiB = 512, 480 }},
		{name: "older Xen", host: func(s *xlsim.HostSpec) { s.XenVersion = "4.16.1" },
			do: func(b *host, job *jobs.Job) {
				job.Plan.Guest.State, job.Plan.Guest.Xen, job.Plan.Mode = jobs.VMRunning, "4.17.7", jobs.Suspend
			},
			want: "xen_version: b: Xen 4.16.1 is older than the source's 4.17.7 and cannot restore what that saves (upgrade it, or submit with --mode cold)"},
		{name: "older Xen, cold", host: func(s *xlsim.HostSpec) { s.XenVersion = "4.16.1" },
			do: func(b *host, job *jobs.Job) { job.Plan.Guest.Xen = "4.17.7" }},
		{name: "CPU", do: func(b *host, job *jobs.Job) {
			job.Plan.Mode, job.Plan.Guest.HWCaps = jobs.Suspend, "178bf3fd:80002001:20100800:00000007:00000001:00000000:00000000:80000000"
		}, want: "cpu: b: its CPU lacks features that the guest was booted with (hw_caps: 00000000:00000000:00000000:00000000:00000001:00000000:00000000:80000000) (submit with --mode cold)"},
		{name: "bridge", do: func(b *host, job *jobs.Job) {
			job.Spec.Map.Bridges = map[string]string{"xenbr0": "lan"}
		}, want: "bridge: b: there is no bridge lan (make it, or map another: --map bridge=xenbr0:NAME)"},
		{name: "config of the VM", do: func(b *host, job *jobs.Job) { write(t, b.etc("old.cfg"), read(t, a.etc("web01.cfg"))) },
			want: "config_taken: b: config /etc-xen/old.cfg describes the VM here already (move it away if it is an old copy)"},
		{name: "config of that name", do: func(b *host, job *jobs.Job) {
			write(t, b.etc("web01.cfg"), "name='mail'\nmemory=8\n")
			write(t, b.etc("x.cfg"), "name='web01'\nmemory=8\nuuid='5eed0000-0000-4000-8000-0000000000ff'\n")
		}, want: "config_taken: b: config /etc-xen/web01.cfg describes vm mail here (move it away)\n" +
			"config_taken: b: config /etc-xen/x.cfg describes vm web01 here (move it away)"},
		{name: "something at the config's place", do: func(b *host, job *jobs.Job) { must(t, os.Mkdir(b.etc("web01.cfg"), 0o755)) },
			want: "config_taken: b: /etc-xen/web01.cfg is there already (move it away)"},
		{name: "autostart link", do: func(b *host, job *jobs.Job) { must(t, os.Symlink("../mail.cfg", b.etc("auto/web01.cfg"))) },
			want: "autostart_taken: b: autostart link /etc-xen/auto/web01.cfg is there already (remove it or give it another name)"},
		{name: "autostart link to the same place", do: func(b *host, job *jobs.Job) { must(t, os.Symlink(b.etc("web01.cfg"), b.etc("auto/web01.cfg"))) }},
		{name: "config that cannot be mapped", do: func(b *host, job *jobs.Job) { job.Plan.Guest.ConfigText = []byte(doubled) },
			want: fmt.Sprintf("config: b: config /a/etc-xen/web01.cfg cannot be written for this host: %v (write it in a simpler way at the source)", unmapped)},
		{name: "boot files", do: func(b *host, job *jobs.Job) {
			write(t, b.disks("kernel"), "another")
			job.Plan.Guest.BootFiles = []jobs.BootFile{{Key: "kernel", Path: b.disks("kernel")}, {Key: "ramdisk", Path: b.disks("none/initrd")},
				{Key: "firmware", Path: b.disks("")}, {Key: "device_tree", Path: b.disks("missing")}}
		}, want: "boot_file: b: kernel /disks/kernel is another file than on a; the next boot would use it (copy the source's, or give this VM a path of its own)\n" +
			"boot_file: b: ramdisk /disks/none/initrd: stat /disks/none: no such file or directory (make the directory, or copy the file)\n" +
			"boot_file: b: firmware /disks: /disks is no regular file (make it readable)"},
		{name: "one place for two", do: func(b *host, job *jobs.Job) { job.Plan.Disks[1].To = job.Plan.Disks[0].To },
			want: "map: b: disk xvdb: /disks/web01-xvda is the place of disk xvda too (map each to a place of its own)"},
		{name: "one place for a writable and a read-only one", do: func(b *host, job *jobs.Job) {
			job.Plan.Disks[1].To, job.Plan.Disks[1].ReadOnly = job.Plan.Disks[0].To, true
		}, want: "map: b: disk xvdb: /disks/web01-xvda is the place of disk xvda too (map each to a place of its own)\n" +
			"read_only_disk: b: disk xvdb: /disks/web01-xvda: volume does not exist (copy it there, map it, or eject it)"},
		{name: "one read-only image twice", do: func(b *host, job *jobs.Job) {
			must(t, xlsim.MakeDisk(b.disks("iso"), mib, xlsim.Mix{}))
			for i := range job.Plan.Disks {
				job.Plan.Disks[i].To, job.Plan.Disks[i].ReadOnly = b.disks("iso"), true
			}
		}},
		{name: "disk of another guest", do: func(b *host, job *jobs.Job) {
			must(t, xlsim.MakeDisk(b.disks("web01-xvda"), mib, xlsim.Mix{}))
			create(b, xlsim.GuestSpec{Name: "mail", Disks: []xlsim.GuestDisk{{Path: b.disks("web01-xvda"), Vdev: "xvda"}}})
		}, want: "disk_in_use: b: disk xvda: /disks/web01-xvda is attached to domain 1 " + other + "\n" +
			"disk_exists: b: disk xvda: /disks/web01-xvda is there already and not this VM's (remove it if nobody needs it, or map another: --map disk=/a/disks/web01-xvda:PATH)"},
		{name: "directory", do: func(b *host, job *jobs.Job) { must(t, os.Mkdir(b.disks("web01-xvda"), 0o755)) },
			want: "disk: b: disk xvda: /disks/web01-xvda is a directory: not a regular file or block device " + other},
		{name: "no directory", do: func(b *host, job *jobs.Job) { job.Plan.Disks[0].To = b.disks("none/xvda") },
			want: "directory: b: disk xvda: there is no directory /disks/none (make it, or map another: --map disk=/a/disks/web01-xvda:PATH)"},
		{name: "space", do: func(b *host, job *jobs.Job) {
			job.Plan.Disks[0].Size, job.Plan.Disks[1].Size = 1<<50, 1<<51
		}, want: "space: b: disk xvda: FS has N MiB free for /disks/web01-xvda, the disks there need 1073741824 MiB (free space there, or map the disk elsewhere)\n" +
			"space: b: disk xvdb: FS has N MiB free for /disks/web01-xvdb, the disks there need 2147483648 MiB (free space there, or map the disk elsewhere)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := w.dir
			w.dir = filepath.Join(dir, fmt.Sprint(i))
			if c.host == nil {
				c.host = func(*xlsim.HostSpec) {}
			}
			b := w.host("b", c.host)
			w.dir = dir
			job := newJob(a, b, vm, jobs.Cold, 1)
			guest, blockers, err := a.src.Inspect(w.ctx, job)
			must(t, err)
			equal(t, "at the source", len(blockers), 0)
			job.Plan = jobs.Plan{Mode: jobs.Cold, Guest: guest}
			for _, d := range guest.Disks {
				job.Plan.Disks = append(job.Plan.Disks, jobs.DiskMove{Name: d.Name, From: d.Path, To: job.Spec.Map.Disk(d.Path), Size: d.Size})
			}
			if c.do != nil {
				c.do(b, &job)
			}
			answer, err := b.dst.Check(w.ctx, job)
			must(t, err)
			equal(t, "blockers", freeSpace.ReplaceAllString(lines(b, answer.Blockers), "FS has N MiB"), c.want)
			equal(t, "config", answer.Config, b.etc("web01.cfg"))
			if c.name == "boot files" {
				equal(t, "to be sent", strings.Join(answer.Lacks, " "), b.disks("missing"))
			}
			holders, err := b.volumes.Holders(w.ctx)
			must(t, err)
			equal(t, "space held by a check", len(holders), 0)
		})
	}
}
