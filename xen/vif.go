package xen

import (
	"fmt"
	"strings"
)

// VIF is one item of a config's vif list. It keeps the text it was read from,
// so that WithBridge changes nothing but the bridge.
type VIF struct {
	Bridge string // "" where none is named: the default of the host counts then

	spec     string
	from, to int // the bridge's name in spec; from is -1 where there is none
}

// ParseVIF reads a network card as xl does: KEY=VALUE separated by commas,
// blanks before a key, the last one of a key counts. Other keys are left to xl.
func ParseVIF(spec string) (VIF, error) {
	if strings.ContainsAny(spec, "\n\x00") {
		return VIF{}, fmt.Errorf("vif %q: a line end or a NUL byte in it: a card is written in one line", spec)
	}
	v := VIF{spec: spec, from: -1}
	at := 0
	for item := range strings.SplitSeq(spec, ",") {
		end := at + len(item)
		if name, ok := strings.CutPrefix(strings.TrimLeft(item, " "), "bridge="); ok {
			v.Bridge, v.from, v.to = name, end-len(name), end
		}
		at = end + 1
	}
	return v, nil
}

// WithBridge is the spec on another bridge, and all else as it was. No name of
// a bridge has a comma.
func (v VIF) WithBridge(name string) string {
	if v.from >= 0 {
		return v.spec[:v.from] + name + v.spec[v.to:]
	}
	if before := strings.TrimRight(v.spec, " "); before == "" || strings.HasSuffix(before, ",") {
		return v.spec + "bridge=" + name
	}
	return v.spec + ",bridge=" + name
}
