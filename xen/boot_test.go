package xen

import (
	"reflect"
	"testing"
)

func TestBootNeeds(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want []BootNeed
	}{
		{"name = 'x'\nmemory = 1\ndisk = ['/x.iso,,hdc,cdrom']", nil},
		{"kernel = '/boot/vmlinuz'\nramdisk = '/boot/initrd'\nextra = '/boot/x'", []BootNeed{{"kernel", "/boot/vmlinuz"}, {"ramdisk", "/boot/initrd"}}},
		{"ramdisk = '/boot/initrd'\nkernel = 'vmlinuz'", []BootNeed{{"kernel", "vmlinuz"}, {"ramdisk", "/boot/initrd"}}},
		{"bootloader = 'pygrub'", []BootNeed{{"bootloader", "pygrub"}}},
		{"bootloader = '/usr/lib/xen-4.17/bin/pygrub'", []BootNeed{{"bootloader", "/usr/lib/xen-4.17/bin/pygrub"}}},
		{"device_tree = '/srv/guest.dtb'", []BootNeed{{"device_tree", "/srv/guest.dtb"}}},
		{"kernel = ''", nil},
		{"kernel = ['/x']", nil},
		{"kernel = '/a'\nkernel = '/b'", []BootNeed{{"kernel", "/b"}}},
		// Firmware by a word is each host's own, by a path it is a file.
		{"type = 'hvm'\nfirmware = 'uefi'", nil},
		{"type = 'hvm'\nfirmware = 'seabios'", nil},
		{"type = 'pvh'\nfirmware = 'pvgrub64'", nil},
		{"type = 'hvm'\nfirmware = '/srv/OVMF.fd'", []BootNeed{{"firmware", "/srv/OVMF.fd"}}},
		{"type = 'hvm'\nbios = 'ovmf'\nbios_path_override = '/srv/OVMF.fd'\nfirmware_override = '/srv/hvmloader'",
			[]BootNeed{{"firmware_override", "/srv/hvmloader"}, {"bios_path_override", "/srv/OVMF.fd"}}},
		{"type = 'hvm'\nacpi_firmware = '/srv/acpi'\nsmbios_firmware = '/srv/smbios'", []BootNeed{{"smbios_firmware", "/srv/smbios"}, {"acpi_firmware", "/srv/acpi"}}},
		{"device_model_override = '/srv/qemu'\nstubdomain_kernel = '/srv/k'\nstubdomain_ramdisk = '/srv/r'",
			[]BootNeed{{"device_model_override", "/srv/qemu"}, {"stubdomain_kernel", "/srv/k"}, {"stubdomain_ramdisk", "/srv/r"}}},
		{"type = 'pvh'\npvshim = 1\npvshim_path = '/srv/shim'", []BootNeed{{"pvshim_path", "/srv/shim"}}},
		// xm wanted hvmloader as the kernel of an HVM guest; xl overlooks it there only.
		{"builder = 'hvm'\nkernel = '/usr/lib/xen/boot/hvmloader'", nil},
		{"type = 'hvm'\nkernel = 'hvmloader'", nil},
		{"kernel = '/usr/lib/xen/boot/hvmloader'", []BootNeed{{"kernel", "/usr/lib/xen/boot/hvmloader"}}},
		{"type = 'hvm'\nkernel = '/srv/vmlinuz'", []BootNeed{{"kernel", "/srv/vmlinuz"}}},
	} {
		cfg, err := ParseConfig([]byte(tt.src))
		if err != nil {
			t.Fatal(err)
		}
		if got := BootNeeds(cfg); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: needs %q, want %q", tt.src, got, tt.want)
		}
	}
}
