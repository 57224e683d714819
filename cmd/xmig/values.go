package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"xmig/jobs"
	"xmig/jobs/coordinator"
)

// size is a number of bytes on the command line: 200MiB, 1.5GiB, 4096.
type size int64

// rate is bytes per second: 200MiB/s; the /s may be left out.
type rate int64

var sizeUnits = map[string]float64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

func parseSize(s string) (size, error) {
	t := strings.TrimSpace(s)
	i := len(t)
	for i > 0 && (t[i-1] < '0' || t[i-1] > '9') && t[i-1] != '.' {
		i--
	}
	n, err := strconv.ParseFloat(t[:i], 64)
	unit, known := sizeUnits[strings.ToLower(strings.TrimSpace(t[i:]))]
	if err != nil || !known || n < 0 || n*unit >= 1<<62 {
		return 0, fmt.Errorf("size %q: want a number with B, KiB, MiB, GiB or TiB, such as 200MiB", s)
	}
	return size(n * unit), nil
}

// UnmarshalText reads a size from a flag, the environment or the config file.
func (v *size) UnmarshalText(text []byte) (err error) {
	*v, err = parseSize(string(text))
	return err
}

// UnmarshalText reads a rate.
func (v *rate) UnmarshalText(text []byte) error {
	n, err := parseSize(strings.TrimSuffix(strings.TrimSpace(string(text)), "/s"))
	if err != nil {
		return fmt.Errorf("rate %q: want bytes per second, such as 200MiB/s", text)
	}
	*v = rate(n)
	return nil
}

// program is one with its first arguments, which may look like flags:
// "ip netns exec blue xl -f".
type program []string

// UnmarshalText reads words separated by blanks.
func (v *program) UnmarshalText(text []byte) error {
	*v = strings.Fields(string(text))
	return nil
}

// hours are limits for a part of the week.
type hours coordinator.Hours

// UnmarshalText reads them from a flag, the environment or the config file.
func (v *hours) UnmarshalText(text []byte) error {
	h, err := coordinator.ParseHours(string(text))
	*v = hours(h)
	return err
}

// rateHours is a rate for a part of the week.
type rateHours jobs.RateHours

// rateHoursForm is how they are written.
const rateHoursForm = jobs.PeriodForm + " RATE, such as: mon-fri 08:00-18:00 50MiB/s, or: 22:00-06:00 0"

// UnmarshalText reads them from a flag, the environment or the config file.
func (v *rateHours) UnmarshalText(text []byte) error {
	_, words, bad := jobs.TakePeriod(strings.Fields(string(text)))
	var r rate
	switch {
	case bad != "":
	case len(words) == 0:
		bad = "no rate"
	default:
		if err := r.UnmarshalText([]byte(strings.Join(words, " "))); err != nil {
			bad = err.Error()
		}
	}
	if bad != "" {
		return fmt.Errorf("hours %q: %s; want %s", text, bad, rateHoursForm)
	}
	all := strings.Fields(strings.ToLower(string(text)))
	*v = rateHours{Hours: strings.Join(all[:len(all)-len(words)], " "), Rate: int64(r)}
	return nil
}

func plainHours(all []rateHours) (out []jobs.RateHours) {
	for _, h := range all {
		out = append(out, jobs.RateHours(h))
	}
	return out
}

// mapping is what is called otherwise at the destination: disk=A:B,bridge=A:B.
type mapping jobs.Mapping

// Decode reads one --map; it may be given several times.
func (m *mapping) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("mapping", &text); err != nil {
		return err
	}
	for _, item := range strings.Split(text, ",") {
		kind, pair, _ := strings.Cut(item, "=")
		if kind == "shared" && pair != "" {
			m.Shared = append(m.Shared, pair)
			continue
		}
		from, to, ok := strings.Cut(pair, ":")
		if !ok || from == "" || to == "" {
			return fmt.Errorf("map %q: want disk=FROM:TO, bridge=FROM:TO or shared=PATH", item)
		}
		switch kind {
		case "disk":
			put(&m.Disks, from, to)
		case "bridge":
			put(&m.Bridges, from, to)
		default:
			return fmt.Errorf("map %q: want disk=FROM:TO, bridge=FROM:TO or shared=PATH", item)
		}
	}
	return nil
}

func put(m *map[string]string, from, to string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[from] = to
}

// place is one end of a sync: a local path, or HOST:DEVICE.
type place struct {
	Host string // empty: here
	Path string
}

// parsePlace: HOST:/PATH is remote; anything else is a local path, also one
// with a colon in it.
func parsePlace(s string) place {
	if host, path, ok := strings.Cut(s, ":"); ok && jobs.ValidNode(host) && strings.HasPrefix(path, "/") {
		return place{Host: host, Path: path}
	}
	return place{Path: s}
}
