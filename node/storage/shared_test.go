package storage

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// sysTree makes attributes as the kernel shows them: path → text.
func sysTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestProof: only what standards make unique proves that two hosts see one disk.
func TestProof(t *testing.T) {
	const lun = "naa.600508b400105e210000900000490000"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"LUN", map[string]string{"device/wwid": lun}, lun},
		{"NVMe", map[string]string{"wwid": "eui.0025385a71b0ffff"}, "eui.0025385a71b0ffff"},
		{"LUN by several paths", map[string]string{"dm/uuid": "mpath-3600508b400105e210000900000490000", "slaves/sda/device/wwid": lun}, lun},
		{"volume on it", map[string]string{"dm/uuid": "LVM-x", "slaves/dm-1/dm/uuid": "mpath-3600508b400105e210000900000490000"}, lun + " LVM-x"},
		{"volume over two", map[string]string{"dm/uuid": "LVM-x", "slaves/sdb/wwid": "eui.0025385a71b0ffff", "slaves/sda/device/wwid": lun}, "eui.0025385a71b0ffff+" + lun + " LVM-x"},
		{"volume over a shared and a local disk", map[string]string{"dm/uuid": "LVM-x", "slaves/sda/device/wwid": lun, "slaves/sdb/size": "1"}, ""},
		{"emulated disk", map[string]string{"device/wwid": "t10.ATA     QEMU HARDDISK                           QM00001"}, ""},
		{"serial number", map[string]string{"serial": "1"}, ""},
		{"nothing", nil, ""},
	} {
		if got := proofOf(sysTree(t, c.files)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAliasOfFile(t *testing.T) {
	dir := sysTree(t, map[string]string{"mountinfo": "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" +
		"90 22 0:52 / /srv/nfs rw,relatime shared:7 - nfs4 10.0.0.9:/export/vm rw,vers=4.2\n" +
		"91 22 0:53 / /srv/smb rw - cifs //files/vm rw"})
	for _, c := range []struct {
		dev  uint64
		want Alias
	}{
		{unix.Mkdev(8, 1), Alias{}},
		{unix.Mkdev(0, 52), Alias{Proof: "nfs:10.0.0.9:/export/vm#77", Name: "nfs:10.0.0.9:/export/vm#77"}},
		{unix.Mkdev(0, 53), Alias{}}, // each client numbers the files itself
		{unix.Mkdev(0, 99), Alias{}},
	} {
		got, err := aliasOfFile(Volume{Path: "/x", ID: Identity{Dev: c.dev, Ino: 77}}, filepath.Join(dir, "mountinfo"))
		if err != nil || got != c.want {
			t.Errorf("%x: %+v, %v, want %+v", c.dev, got, err, c.want)
		}
	}
	if _, err := aliasOfFile(Volume{Path: "/x"}, filepath.Join(dir, "none")); err == nil {
		t.Error("no mountinfo is no error")
	}
}

func TestAliasName(t *testing.T) {
	for stable, want := range map[string]string{
		"dm:LVM-x": "dm:LVM-x", "wwid:naa.6": "wwid:naa.6", "md:1": "md:1",
		"serial:QM1": "", "loop:/srv/a.img": "", "wwid:t10.ATA": "", "": "",
	} {
		if got := aliasName(stable); got != want {
			t.Errorf("%q: %q, want %q", stable, got, want)
		}
	}
}
