package xen

import (
	"fmt"
	"net"
	"strings"
)

// VIF is one item of a config's vif list. It keeps the text it was read from.
type VIF struct {
	Bridge string // "" where it names none: xl takes its own default then
	MAC    string // "" where it names none: xl makes one up at each boot

	spec     string
	from, to int // the bridge's name in spec; from is -1 where it has none
}

// ParseVIF reads a network card as xl does: KEY=VALUE separated by commas,
// blanks before a key, the last one of a key counts. What is not known here is
// left to xl.
func ParseVIF(spec string) (VIF, error) {
	v := VIF{spec: spec, from: -1}
	if strings.ContainsAny(spec, "\n\x00") {
		return VIF{}, fmt.Errorf("vif %q: a line end or a NUL byte in it: a card is written in one line", spec)
	}
	at := 0
	for item := range strings.SplitSeq(spec, ",") {
		end := at + len(item)
		key, value, _ := strings.Cut(strings.TrimLeft(item, " "), "=")
		switch key {
		case "bridge":
			v.Bridge, v.from, v.to = value, end-len(value), end
		case "mac":
			if hw, err := net.ParseMAC(value); err != nil || len(hw) != 6 {
				return VIF{}, fmt.Errorf("vif %q: mac %q: want six bytes, 00:16:3e:00:00:01 for example", spec, value)
			}
			v.MAC = value
		}
		at = end + 1
	}
	return v, nil
}

// WithBridge is the spec on another bridge, and all else as it was. The name
// must have no comma.
func (v VIF) WithBridge(name string) string {
	switch {
	case v.from >= 0:
		return v.spec[:v.from] + name + v.spec[v.to:]
	case strings.Trim(v.spec, " ,") == "" || strings.HasSuffix(v.spec, ","):
		return v.spec + "bridge=" + name
	}
	return v.spec + ",bridge=" + name
}
