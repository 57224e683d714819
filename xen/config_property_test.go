package xen

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// piece is a part of a config's text. A literal may be set; the rest is what
// must never change.
type piece struct {
	text    string
	literal bool
	key     string
	item    int // of a list; -1 for a value that is a string
}

// configs draws texts of xl's grammar, each key once, in pieces.
func configs(t *rapid.T) []piece {
	var pieces []piece
	fixed := func(s string) { pieces = append(pieces, piece{text: s}) }
	blank := rapid.SampledFrom([]string{"", " ", "\t "})
	gap := rapid.SampledFrom([]string{"", " ", "\n", " \n\t", "# it's ]\n", "\n\n#x\r\n"})
	end := rapid.SampledFrom([]string{"\n", ";", " ; ", " # [ 'x\n", "\r\n", "\n\n"})
	keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9._]{0,6}`), 1, 5, rapid.ID).Draw(t, "keys")
	for _, key := range keys {
		fixed(blank.Draw(t, "indent") + key + blank.Draw(t, "before") + "=" + blank.Draw(t, "behind"))
		if rapid.Bool().Draw(t, "string") {
			pieces = append(pieces, piece{literals(t), true, key, -1})
		} else {
			fixed("[" + gap.Draw(t, "gap"))
			n := rapid.IntRange(0, 3).Draw(t, "items")
			for i := range n {
				pieces = append(pieces, piece{literals(t), true, key, i})
				fixed(gap.Draw(t, "gap"))
				if i < n-1 || rapid.Bool().Draw(t, "last comma") {
					fixed("," + gap.Draw(t, "gap"))
				}
			}
			fixed("]")
		}
		fixed(end.Draw(t, "end"))
	}
	return pieces
}

func literals(t *rapid.T) string {
	return rapid.OneOf(
		rapid.StringMatching(`'([^'\\\n\x00]|\\[abfnrtv\\'"]){0,8}'`),
		rapid.StringMatching(`"([^"\\\n\x00]|\\[abfnrtv\\'"]){0,8}"`),
		rapid.StringMatching(`[0-9][0-9a-fx]{0,3}`),
	).Draw(t, "literal")
}

func join(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.text)
	}
	return b.String()
}

// values are any strings a value can have.
var values = rapid.Custom(func(t *rapid.T) string {
	b := rapid.SliceOfN(rapid.OneOf(rapid.ByteRange(1, 255), rapid.SampledFrom([]byte("'\"\\\n\r#,=[]0x"))), 0, 12).Draw(t, "bytes")
	return string(b)
})

// TestSetChangesNothingElse: what was set is read back, and no byte outside of
// its literal is another one.
func TestSetChangesNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := configs(t)
		src := join(pieces)
		cfg, err := ParseConfig([]byte(src))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		if got := string(cfg.Bytes()); got != src {
			t.Fatalf("%q is %q after parsing", src, got)
		}
		var places []int
		for i, p := range pieces {
			if p.literal {
				places = append(places, i)
			}
		}
		if len(places) == 0 {
			return
		}
		at := rapid.SampledFrom(places).Draw(t, "place")
		key, value := pieces[at].key, values.Draw(t, "value")
		if pieces[at].item < 0 {
			err = cfg.SetString(key, value)
		} else {
			err = cfg.SetListItem(key, pieces[at].item, value)
		}
		if err != nil {
			t.Fatalf("%q: set %s: %v", src, key, err)
		}
		got, before, behind := string(cfg.Bytes()), join(pieces[:at]), join(pieces[at+1:])
		if !strings.HasPrefix(got, before) || !strings.HasSuffix(got, behind) || len(got) < len(before)+len(behind) {
			t.Fatalf("set %s to %q:\n%q became\n%q", key, value, src, got)
		}
		again, err := ParseConfig(cfg.Bytes())
		if err != nil {
			t.Fatalf("set %s to %q made %q of %q: %v", key, value, got, src, err)
		}
		for name, c := range map[string]*Config{"at once": cfg, "parsed again": again} {
			if read := items(c, key)[max(0, pieces[at].item)]; read != value {
				t.Fatalf("%s: set %s to %q, read %q", name, key, value, read)
			}
		}
	})
}

func items(c *Config, key string) []string {
	l, _ := c.List(key)
	return l
}

// TestAppendChangesNothingElse: a key that is new leaves all others.
func TestAppendChangesNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := strings.TrimRight(join(configs(t)), rapid.SampledFrom([]string{"", "\r\n; "}).Draw(t, "cut"))
		cfg, err := ParseConfig([]byte(src))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		before := map[string][]string{}
		for _, key := range cfg.Keys() {
			before[key] = items(cfg, key)
		}
		value := values.Draw(t, "value")
		if err := cfg.SetString("a_key_so_new", value); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(cfg.Bytes()), src) {
			t.Fatalf("%q became %q", src, cfg.Bytes())
		}
		if got, ok := cfg.String("a_key_so_new"); !ok || got != value {
			t.Fatalf("set %q, read %q %v", value, got, ok)
		}
		for key, was := range before {
			if !reflect.DeepEqual(items(cfg, key), was) {
				t.Fatalf("%q: %s was %q, is %q", src, key, was, items(cfg, key))
			}
		}
	})
}

// FuzzParseConfig: any bytes are refused or kept as they are, and every value
// of what is a config can be set and read back.
func FuzzParseConfig(f *testing.F) {
	for _, src := range realConfigs(f) {
		f.Add(src, "/dev/vg1/x")
	}
	f.Add([]byte("a += [['x',],'y', 1]\na+=[]#"), "'\"\\\n")
	f.Fuzz(func(t *testing.T, src []byte, value string) {
		cfg, err := ParseConfig(src)
		if err != nil {
			if cfg != nil || err.Error() == "" {
				t.Fatalf("%q: %v with %v", src, err, cfg)
			}
			return
		}
		if !bytes.Equal(cfg.Bytes(), src) {
			t.Fatalf("%q is %q after parsing", src, cfg.Bytes())
		}
		for _, key := range cfg.Keys() {
			for i, was := range items(cfg, key) {
				if err := cfg.SetListItem(key, i, value); err != nil {
					if strings.Contains(value, "\x00") {
						continue
					}
					t.Fatalf("%q: set %s item %d to %q: %v", src, key, i, value, err)
				}
				if got := items(cfg, key)[i]; got != value {
					t.Fatalf("%q: set %s item %d to %q, read %q", src, key, i, value, got)
				}
				if err := cfg.SetListItem(key, i, was); err != nil {
					t.Fatalf("%q: set %s item %d back to %q: %v", src, key, i, was, err)
				}
			}
		}
	})
}
