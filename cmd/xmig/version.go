package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"xmig/blocksync"
)

// version is set by the linker in a release: -ldflags "-X main.version=1.2.3".
var version = ""

type versionCmd struct{}

func (versionCmd) Help() string {
	return `Examples:

    xmig version
    xmig version -o json`
}

// built is what is known of this binary.
type built struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	System  string `json:"system"`
	Zstd    string `json:"compressor"` // the one of C takes a quarter less time
}

func (versionCmd) Run(g *globals, t *terminal) error {
	v := thisBuild()
	if g.Output == "json" {
		return printJSON(t.Out, v)
	}
	_, err := fmt.Fprintf(t.Out, "xmig %s, %s, %s, %s\n", v, v.Go, v.System, v.Zstd)
	return err
}

// String is what people call this binary.
func (v built) String() string {
	if v.Commit == "" {
		return v.Version
	}
	return v.Version + " (" + v.Commit + ")"
}

func thisBuild() built {
	v := built{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Zstd: blocksync.Compressor}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value[:min(12, len(s.Value))]
		}
	}
	if v.Version == "" {
		v.Version = "development"
	}
	return v
}
