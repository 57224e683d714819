package xlsim

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPlainWords: as the shell splits the same line.
func TestPlainWords(t *testing.T) {
	for _, line := range []string{
		`exec '/xmig' 'xl-stub' '/state/journals' 'web 01' '1'`,
		`a  b`, `'it'\''s' one`, `'' x`, `a\ b c`, `'-rf'`,
	} {
		out, err := exec.Command(shell, "-c", `printf '%s\n' `+line).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if got := plainWords(line); !slices.Equal(got, want) {
			t.Errorf("%s: %q, the shell says %q", line, got, want)
		}
	}
}
