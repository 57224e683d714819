package xlsim

import (
	"fmt"
	"strconv"
	"strings"
)

// vdevNumber is the device number a virtual disk has in xenstore: 51712 for xvda.
func vdevNumber(vdev string) (int, error) {
	wrong := fmt.Errorf("vdev %q: not like xvda, sda1, hdc or d2p3", vdev)
	var kind, rest string
	for _, k := range []string{"xvd", "sd", "hd"} {
		if r, ok := strings.CutPrefix(vdev, k); ok {
			kind, rest = k, r
			break
		}
	}
	if kind == "" {
		var disk, part int
		if n, err := fmt.Sscanf(vdev, "d%dp%d", &disk, &part); n == 0 || n == 1 && err == nil || disk < 0 || part < 0 {
			return 0, wrong
		}
		return xvdNumber(disk, part), nil
	}
	letters := strings.TrimRight(rest, "0123456789")
	disk, part := 0, 0
	for _, ch := range letters {
		if ch < 'a' || ch > 'z' {
			return 0, wrong
		}
		disk = disk*26 + int(ch-'a') + 1
	}
	disk--
	if digits := rest[len(letters):]; digits != "" {
		var err error
		if part, err = strconv.Atoi(digits); err != nil {
			return 0, wrong
		}
	}
	switch {
	case disk < 0 || disk > 1<<18:
		return 0, wrong
	case kind == "xvd":
		return xvdNumber(disk, part), nil
	case kind == "sd" && disk < 16 && part < 16:
		return 8<<8 | disk<<4 | part, nil
	case kind == "hd" && disk < 4 && part < 64:
		return []int{3, 22}[disk/2]<<8 | disk%2<<6 | part, nil
	}
	return 0, wrong
}

// xvdNumber: the old form has room for 16 disks of 16 partitions, the
// extended one for the rest.
func xvdNumber(disk, part int) int {
	if disk < 16 && part < 16 {
		return 202<<8 | disk<<4 | part
	}
	return 1<<28 | disk<<8 | part
}
