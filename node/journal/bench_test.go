package journal

import (
	"path/filepath"
	"testing"
)

// BenchmarkAppend is the price of one promise: one synced line. It lies in the blackout a few times.
func BenchmarkAppend(b *testing.B) {
	j, err := Open(filepath.Join(b.TempDir(), "vm.journal"))
	if err != nil {
		b.Fatal(err)
	}
	all := func(string) bool { return true }
	for i := 0; b.Loop(); i++ {
		if _, err := j.Append(Entry{Attempt: "a", Epoch: 1, Fact: "SEALED"}); err != nil {
			b.Fatal(err)
		}
		if i%50 == 49 { // as long as a journal gets between archivings
			if _, err := j.Archive(all); err != nil {
				b.Fatal(err)
			}
		}
	}
}
