package xen

import (
	"path/filepath"
	"slices"
)

// BootNeed is a file of the host that a guest's next boot reads.
type BootNeed struct {
	Key  string // of the config
	Path string // as written; not absolute where xl looks for it itself, as for pygrub
}

// bootKeys are the keys of a config that name files, in xl's order. Disks and
// CD images are no part of it: they are in the disk list.
var bootKeys = []string{
	"kernel", "ramdisk", "device_tree", "bootloader",
	"firmware", "firmware_override", "bios_path_override", "smbios_firmware", "acpi_firmware",
	"pvshim_path", "device_model_override", "stubdomain_kernel", "stubdomain_ramdisk",
}

// firmwareWords are no paths: each host has its own file for them.
var firmwareWords = []string{"bios", "uefi", "ovmf", "seabios", "rombios", "pvgrub32", "pvgrub64"}

// BootNeeds lists what the next boot reads from the host besides the disks. A
// restore needs none of it; a host that lacks it fails at the next reboot.
func BootNeeds(cfg *Config) []BootNeed {
	var needs []BootNeed
	for _, key := range bootKeys {
		path, _ := cfg.String(key)
		switch {
		case path == "":
		case key == "firmware" && slices.Contains(firmwareWords, path):
		case key == "kernel" && guestType(cfg) == "hvm" && filepath.Base(path) == "hvmloader":
			// xl overlooks it: configs for xm had to name it
		default:
			needs = append(needs, BootNeed{Key: key, Path: path})
		}
	}
	return needs
}

// guestType is pv, pvh or hvm.
func guestType(cfg *Config) string {
	kind, _ := cfg.String("type")
	builder, _ := cfg.String("builder")
	switch {
	case kind != "":
		return kind
	case builder == "hvm":
		return "hvm"
	}
	return "pv"
}
