package xen

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// text is a key whose value is one string, list one whose value is a list.
type text string
type list []string
type number64 int64
type absent struct{}

// TestParseConfig has the forms of xl's grammar. Each was held against xl's own
// parser (libxlu), which reads the same but for the lines marked "ours".
func TestParseConfig(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want map[string]any
	}{
		{"", map[string]any{"a": absent{}}},
		{"a = 'x'", map[string]any{"a": text("x"), "b": absent{}}},
		{"a='x'\nb=\"y\"\n", map[string]any{"a": text("x"), "b": text("y")}},
		{"a='x';b='y' ; c='z';", map[string]any{"a": text("x"), "b": text("y"), "c": text("z")}},
		{";;\n;a=1", map[string]any{"a": number64(1)}},
		{"\ta\t=\t'x'\t\n", map[string]any{"a": text("x")}},
		{"a = 'first'\na = 'last'", map[string]any{"a": text("last")}},
		{"if = 1\nfrom += 'x'", map[string]any{"if": number64(1), "from": text("x")}}, // Python's words are keys like any other
		{"a.b_1c = 1", map[string]any{"a.b_1c": number64(1)}},

		// Numbers, and strings that are numbers.
		{"a = 0x1f", map[string]any{"a": number64(31)}},
		{"a = 017", map[string]any{"a": number64(15)}},
		{"a = '2048'", map[string]any{"a": number64(2048)}},
		{"a = ' -5'", map[string]any{"a": number64(-5)}},
		{"a = 08", map[string]any{"a": text("08")}},
		{"a = 12abc", map[string]any{"a": text("12abc")}},
		{"a = '5 '", map[string]any{"a": text("5 ")}},
		{"a = '0b1'", map[string]any{"a": text("0b1")}},
		{"a = '1_000'", map[string]any{"a": text("1_000")}},
		{"a = 99999999999999999999", map[string]any{"a": text("99999999999999999999")}},
		{"a = 1\na += 2", map[string]any{"a": text("12")}},

		// Strings.
		{`a = "it's"` + "\n" + `b = 'say "x"'`, map[string]any{"a": text("it's"), "b": text(`say "x"`)}},
		{`a = "\"\'\\\a\b\f\n\r\t\v"`, map[string]any{"a": text("\"'\\\a\b\f\n\r\t\v")}},
		{"a = '# no comment; [nor] a = list'", map[string]any{"a": text("# no comment; [nor] a = list")}},
		{"a = 'Gr\u00fc\u00dfe \x01\x7f\xff'", map[string]any{"a": text("Gr\u00fc\u00dfe \x01\x7f\xff")}},
		{"a = ''", map[string]any{"a": text("")}},
		{"a = 'x'\na += \"y\"", map[string]any{"a": text("xy")}},
		{"a += 'x'", map[string]any{"a": text("x")}},

		// Lists.
		{"disk = [ ]", map[string]any{"disk": list{}}},
		{"disk = []", map[string]any{"disk": list{}}},
		{"disk = ['a','b']", map[string]any{"disk": list{"a", "b"}}},
		{"disk = [ 'a,,xvda', # comment, with ' quote\n \"b,,xvdb\", ]", map[string]any{"disk": list{"a,,xvda", "b,,xvdb"}}},
		{"disk = [\n\n\t'a'\n\t,\n\t'b'\n,\n]\nb = 1", map[string]any{"disk": list{"a", "b"}, "b": number64(1)}},
		{"disk = ['a']\ndisk += ['b', 'c']\ndisk += []", map[string]any{"disk": list{"a", "b", "c"}}},
		{"disk += ['a']", map[string]any{"disk": list{"a"}}},
		{"disk = ['a']\ndisk += ['b']\ndisk = ['c']\ndisk += ['d']", map[string]any{"disk": list{"c", "d"}}},
		{"a = [1, 0x2, 'x']", map[string]any{"a": list{"1", "0x2", "x"}}},
		{"a = [['x', 'y'], [], ['z', ['q']]]", map[string]any{"a": list{"x", "y", "z", "q"}}},

		// Comments and ends of lines.
		{"# only this", map[string]any{}}, // ours: xl wants a line end behind a comment
		{"# it's [not\na = 1 # nor; b = 2\n", map[string]any{"a": number64(1), "b": absent{}}},
		{"a = 'x'\r\nb = [ 'y',\r\n 'z' ]\r\n", map[string]any{"a": text("x"), "b": list{"y", "z"}}}, // ours: xl knows no CR
	} {
		cfg, err := ParseConfig([]byte(tt.src))
		if err != nil {
			t.Errorf("%q: %v", tt.src, err)
			continue
		}
		if got := cfg.Bytes(); string(got) != tt.src {
			t.Errorf("%q: is %q after parsing", tt.src, got)
		}
		for key, want := range tt.want {
			if got := read(cfg, key); !reflect.DeepEqual(got, want) {
				t.Errorf("%q: %s is %T %#v, want %T %#v", tt.src, key, got, got, want, want)
			}
		}
	}
}

// read tells a key's value by its kind.
func read(cfg *Config, key string) any {
	if n, ok := cfg.Int(key); ok {
		return number64(n)
	}
	if s, ok := cfg.String(key); ok {
		return text(s)
	}
	if l, ok := cfg.List(key); ok {
		return list(l)
	}
	return absent{}
}

func TestConfigKinds(t *testing.T) {
	cfg, err := ParseConfig([]byte("s = 'x'\nl = ['y']\ns += 'z'\nq = []"))
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Keys(); !reflect.DeepEqual(got, []string{"s", "l", "q"}) {
		t.Errorf("keys %q", got)
	}
	if s, ok := cfg.String("l"); ok {
		t.Errorf("a list read as the string %q", s)
	}
	if l, ok := cfg.List("s"); !ok || !reflect.DeepEqual(l, []string{"x", "z"}) {
		t.Errorf("a string read as the list %q %v", l, ok)
	}
	if l, ok := cfg.List("q"); !ok || len(l) != 0 {
		t.Errorf("an empty list read as %q %v", l, ok)
	}
	if _, ok := cfg.List("none"); ok {
		t.Error("a key that is not there has a list")
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for _, tt := range []struct {
		src    string
		line   int
		column int
		says   string
		python bool
	}{
		{"a", 1, 2, "want = and a value", false},
		{"a = ", 1, 5, "end of file", false},
		{"a =\n'x'", 1, 4, "end of line", false},
		{"\n  Name = 'x'", 2, 3, "lower case", false},
		{"_a = 1", 1, 1, "lower case", false},
		{"a-b = 1", 1, 2, "- after the key a", true},
		{"1a = 1", 1, 1, "keys begin with a lower-case letter", false},
		{"a = 'x' b = 'y'", 1, 9, "one setting a line", false},
		{"a = 'x\ny'", 1, 5, "has no end in its line", false},
		{"a = 'x", 1, 5, "has no end", false},
		{"a = 'x\x00y'", 1, 7, "NUL", false},
		{`a = '\q'`, 1, 6, `escape \q`, false},
		{`a = '\x41'`, 1, 6, "no numbers after a backslash", false},
		{`a = '\101'`, 1, 6, "no numbers after a backslash", false},
		{"a = 'x\\", 1, 7, "a backslash at the end", false},
		{"a = 'x' 'y'", 1, 9, "a string after the value of a", true},
		{"a = [ 'x' 'y' ]", 1, 11, "is a comma missing", false},
		{"a = [ 'x'\n'y' ]", 2, 1, "is a comma missing", false},
		{"a = [ , ]", 1, 7, "want a string in quotes", false},
		{"a = [ 'x',, ]", 1, 11, "want a string in quotes", false},
		{"b = 1\na = [ 'x'", 2, 5, "a list that begins here has no end", false},
		{"a = ]", 1, 5, "want a string in quotes", false},
		{"a = ['x']\na += 'y'", 2, 1, "joins a list and a string", false},
		{"a = 'x'\na += ['y']", 2, 1, "joins a list and a string", false},
		{"a = " + strings.Repeat("[", 65), 1, 69, "nested too deep", false},
		{"\fa = 1", 1, 1, "byte 0x0c", false},
		{"a = 1\r", 1, 6, "byte 0x0d", false},
		{"a = 1\rb = 2\n", 1, 6, "byte 0x0d", false},

		// Programs for xm.
		{"import os\nname = 'x'", 1, 1, `"import"`, true},
		{"name = 'x'\nif vmid == 1:\n  memory = 1", 2, 1, `"if"`, true},
		{"def f(): return 1", 1, 1, `"def"`, true},
		{"name = 'vm%d' % vmid", 1, 15, "% after the value", true},
		{"name = 'vm' + nr", 1, 13, "+ after the value", true},
		{"name = other", 1, 8, `"other" is not in quotes`, true},
		{"vnc = True", 1, 7, `"True" is not in quotes`, true},
		{"memory = 1.5", 1, 11, ". after the value", true},
		{"memory = -1", 1, 10, "-", true},
		{"memory = (1)", 1, 10, "(", true},
		{"name = '''x'''", 1, 8, "triple quotes", true},
		{"disk = [ 'a' % x ]", 1, 14, "% in a list", true},
		{"a == 1", 1, 4, "a comparison", true},
		{"vif = {}", 1, 7, "{", true},
	} {
		cfg, err := ParseConfig([]byte(tt.src))
		var where *ConfigError
		if !errors.As(err, &where) {
			t.Errorf("%q: %v, %v; want a ConfigError", tt.src, cfg, err)
			continue
		}
		if where.Line != tt.line || where.Column != tt.column || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v\nwant line %d, column %d and %q", tt.src, err, tt.line, tt.column, tt.says)
		}
		if errors.Is(err, ErrPython) != tt.python {
			t.Errorf("%q: %v: taken for Python: %v", tt.src, err, !tt.python)
		}
	}
}

func TestSet(t *testing.T) {
	str := func(key, value string) func(*Config) error {
		return func(c *Config) error { return c.SetString(key, value) }
	}
	item := func(key string, i int, value string) func(*Config) error {
		return func(c *Config) error { return c.SetListItem(key, i, value) }
	}
	for _, tt := range []struct {
		name, src string
		set       func(*Config) error
		want      string
	}{
		{"quotes stay", "a = 'x' # 'x'\n", str("a", "y"), "a = 'y' # 'x'\n"},
		{"double ones too", `a="x"`, str("a", "it's"), `a="it's"`},
		{"a quote inside", `a='x'`, str("a", `it's "q" \`), `a='it\'s "q" \\'`},
		{"ends of lines", `a='x'`, str("a", "1\n2\r"), `a='1\n2\r'`},
		{"all other bytes", `a='x'`, str("a", "\x01\t\x7f\xff\u00fc"), "a='\x01\t\x7f\xff\u00fc'"},
		{"a number stays one", "a = 5 # five", str("a", "0x1f"), "a = 0x1f # five"},
		{"or becomes a string", "a = 5", str("a", "-1"), `a = "-1"`},
		{"the last one counts", "a = 1\na = 2\n", str("a", "3"), "a = 1\na = 3\n"},
		{"a new key", "a = 1\n", str("b", "x"), "a = 1\nb = \"x\"\n"},
		{"no final line end", "a = 1", str("b", "x"), "a = 1\nb = \"x\""},
		{"after a comment", "a = 1 # b", str("b", "x"), "a = 1 # b\nb = \"x\""},
		{"CRLF", "a = 1\r\n", str("b", "x"), "a = 1\r\nb = \"x\"\r\n"},
		{"an empty file", "", str("b", "x"), "b = \"x\"\n"},
		{"an item", "disk = [ 'a', # 'b'\n \"b\", ]\n", item("disk", 1, "c"), "disk = [ 'a', # 'b'\n \"c\", ]\n"},
		{"an item of +=", "disk = ['a']\nx=1\ndisk += ['b','c']", item("disk", 2, "d"), "disk = ['a']\nx=1\ndisk += ['b','d']"},
		{"an inner item", "a = [['x'],['y']]", item("a", 1, "z"), "a = [['x'],['z']]"},
		{"a string as a list", "vif = 'x'", item("vif", 0, "z"), "vif = 'z'"},
	} {
		cfg, err := ParseConfig([]byte(tt.src))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := tt.set(cfg); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := cfg.Bytes(); string(got) != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		name, src string
		set       func(*Config) error
		says      string
	}{
		{"a list", "a = ['x']", str("a", "y"), "is a list"},
		{"pieces", "a = 'x'\na += 'y'", str("a", "z"), "put together by +="},
		{"NUL", "a = 'x'", str("a", "\x00"), "NUL"},
		{"NUL in a new key", "", str("a", "\x00"), "NUL"},
		{"a key that is none", "a = 'x'\n", str("A", "z"), "lower case"},
		{"no such item", "a = ['x']", item("a", 1, "z"), "has 1 items, no item 1"},
		{"before the first", "a = ['x']", item("a", -1, "z"), "no item -1"},
		{"no such key", "a = ['x']", item("b", 0, "z"), "has 0 items"},
	} {
		cfg, err := ParseConfig([]byte(tt.src))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := tt.set(cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
		if got := cfg.Bytes(); string(got) != tt.src {
			t.Errorf("%s: changed to %q all the same", tt.name, got)
		}
	}
}

// realConfigs are whole files as they are in use, by name.
func realConfigs(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/configs/*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no configs in testdata: %v", err)
	}
	files := map[string][]byte{}
	for _, path := range append(paths, "xlsim/testdata/d1.cfg") {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestRealConfigs moves every disk and bridge of whole files there and back.
func TestRealConfigs(t *testing.T) {
	for name, src := range realConfigs(t) {
		cfg, err := ParseConfig(src)
		if name == "old.cfg" {
			if !errors.Is(err, ErrPython) {
				t.Errorf("%s: %v, want ErrPython", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		there := move(t, cfg, func(path string) string { return path + ".moved" }, func(br string) string { return "to-" + br })
		if bytes.Equal(there, src) {
			t.Errorf("%s: nothing moved", name)
		}
		back := move(t, cfg, func(path string) string { return strings.TrimSuffix(path, ".moved") }, func(br string) string { return strings.TrimPrefix(br, "to-") })
		if !bytes.Equal(back, src) {
			t.Errorf("%s: there and back is another file:\n%s\nwas\n%s", name, back, src)
		}
	}
}

func move(t *testing.T, cfg *Config, path, bridge func(string) string) []byte {
	t.Helper()
	disks, _ := cfg.List("disk")
	for i, spec := range disks {
		d, err := ParseDisk(spec)
		if err != nil {
			t.Fatal(err)
		}
		if d.Target == "" {
			continue
		}
		if err := cfg.SetListItem("disk", i, d.WithTarget(path(d.Target))); err != nil {
			t.Fatal(err)
		}
	}
	vifs, _ := cfg.List("vif")
	for i, spec := range vifs {
		v, err := ParseVIF(spec)
		if err != nil {
			t.Fatal(err)
		}
		if v.Bridge == "" {
			continue
		}
		if err := cfg.SetListItem("vif", i, v.WithBridge(bridge(v.Bridge))); err != nil {
			t.Fatal(err)
		}
	}
	return cfg.Bytes()
}
