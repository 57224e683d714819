package test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which of our packages each package may import.
var arrows = map[string][]string{
	"xmig/jobs":                     {},
	"xmig/jobs/coordinator":         {"xmig/jobs"},
	"xmig/jobs/coordinator/alert":   {"xmig/jobs"},
	"xmig/jobs/coordinator/api":     {"xmig/jobs", "xmig/jobs/coordinator", "xmig/jobs/coordinator/alert"},
	"xmig/jobs/coordinator/metrics": {"xmig/jobs"},
	"xmig/blocksync":                {},
	"xmig/xen":                      {},
	"xmig/xen/xlsim":                {"xmig/xen"}, // the grammar of configs only, see docs/decisions.md
	"xmig/node/journal":             {},
	"xmig/node/storage":             {},
	"xmig/bus":                      {"xmig/jobs", "xmig/blocksync"},
	"xmig/node":                     {"xmig/bus", "xmig/jobs", "xmig/blocksync", "xmig/xen", "xmig/node/storage", "xmig/node/journal"},
}

// only says which foreign packages belong to one of ours alone.
var only = map[string]string{
	"github.com/nats-io/":     "xmig/bus",
	"github.com/vmihailenco/": "xmig/bus",
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "xmig/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	return all
}

// TestArrows holds every import against the architecture: who may know whom.
func TestArrows(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		seen[p.ImportPath] = true
		may, limited := arrows[p.ImportPath]
		for _, imp := range p.Imports {
			if limited && strings.HasPrefix(imp, "xmig/") && !slices.Contains(may, imp) {
				t.Errorf("%s imports %s, which it must not know", p.ImportPath, imp)
			}
			for prefix, owner := range only {
				if strings.HasPrefix(imp, prefix) && p.ImportPath != owner {
					t.Errorf("%s imports %s; only %s may", p.ImportPath, imp, owner)
				}
			}
		}
	}
	for name := range arrows {
		if !seen[name] {
			t.Errorf("%s is named here and is not there", name)
		}
	}
}

// TestNeverKnows holds the other way round: xlsim uses only the grammar of xen.
func TestXlsimUsesOnlyTheGrammar(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "xmig/xen/xlsim").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	grep, err := exec.Command("grep", "-rhoE", `\bxen\.[A-Z][A-Za-z]*`, "--include=*.go", "--exclude=*_test.go", strings.TrimSpace(string(out))).Output()
	if err != nil {
		t.Skipf("xlsim uses nothing of xen (grep: %v)", err)
	}
	allowed := []string{"xen.ParseConfig", "xen.ParseDisk", "xen.Config", "xen.Disk"}
	for _, use := range strings.Fields(string(grep)) {
		if !slices.Contains(allowed, use) {
			t.Errorf("xlsim uses %s; it must be an independent second opinion but for the grammar", use)
		}
	}
}
