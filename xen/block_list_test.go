package xen

import (
	"slices"
	"testing"
)

func TestParseBlockList(t *testing.T) {
	got, err := parseBlockList(recording(t, "xl-block-list-d1.txt"))
	want := []BlockDevice{{ID: 51712, Connected: true, Backend: "/local/domain/0/backend/vbd/1/51712"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for _, bad := range []string{"", "nosuch is an invalid domain identifier\n", "Vdev  BE\n51712 0\n", "Vdev  BE\nx 0 1 4 8 8 /p\n", "Vdev  BE\n1 0 1 x 8 8 /p\n"} {
		if got, err := parseBlockList(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

func FuzzParseBlockList(f *testing.F) {
	f.Add(recording(f, "xl-block-list-d1.txt"))
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseBlockList(text)
		for _, d := range all {
			if err == nil && d.Backend == "" {
				t.Fatalf("%q: a disk without a backend: %+v", text, all)
			}
		}
	})
}
