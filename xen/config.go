package xen

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Config is a domain's config file as `xl` reads it. It keeps every byte: what
// is not set stays as it was, comments, quotes, line ends and unknown keys
// included.
type Config struct {
	src      []byte
	settings []setting
}

// setting is one assignment. A key may have several: the last `=` counts, and
// the `+=` after it.
type setting struct {
	key   string
	add   bool // +=
	value value
}

// value is an atom or a list of values.
type value struct {
	isList bool
	items  []value
	atom   atom
}

// atom is a string or a number; from and to are its place in the source,
// quotes included.
type atom struct {
	text     string
	quote    byte // ' or ", 0 for a number
	from, to int
}

// ParseConfig reads a config file. An error is a *ConfigError with line and
// column; it wraps ErrPython where the file is more likely a program for `xm`.
// It takes two things that xl refuses and people do not see: lines that end in
// CRLF, and a last line that is a comment and does not end.
func ParseConfig(data []byte) (*Config, error) {
	src := bytes.Clone(data)
	settings, err := parseSettings(src)
	if err != nil {
		return nil, err
	}
	return &Config{src: src, settings: settings}, nil
}

// Bytes is the file: byte for byte what was parsed, but for what was set.
func (c *Config) Bytes() []byte { return bytes.Clone(c.src) }

// Keys lists the keys in the order of their first appearance.
func (c *Config) Keys() []string {
	var keys []string
	for _, s := range c.settings {
		if !slices.Contains(keys, s.key) {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// String is the value of a key that is a string or a number. Strings added
// with += are joined, as xl does.
func (c *Config) String(key string) (string, bool) {
	var b strings.Builder
	pieces := c.pieces(key)
	for _, s := range pieces {
		if s.value.isList {
			return "", false
		}
		b.WriteString(s.value.atom.text)
	}
	return b.String(), len(pieces) > 0
}

// Int is the value of a key that reads as a number the way C does: 0x begins
// hexadecimal and 0 octal digits. Quotes do not matter; += makes no numbers.
func (c *Config) Int(key string) (int64, bool) {
	s, ok := c.String(key)
	if pieces := c.pieces(key); !ok || pieces[len(pieces)-1].add {
		return 0, false
	}
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	if !cNumber.MatchString(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 0, 64)
	return n, err == nil
}

// cNumber leaves out what Go takes for a number and C does not: 0b1, 0o7, 1_000.
var cNumber = regexp.MustCompile(`^[-+]?(0[xX][0-9a-fA-F]+|[0-9]+)$`)

// List is the strings of a list, inner lists flattened; a bare string counts
// as a list of one.
func (c *Config) List(key string) ([]string, bool) {
	pieces := c.pieces(key)
	list := []string{}
	for _, a := range atoms(pieces) {
		list = append(list, a.text)
	}
	return list, len(pieces) > 0
}

// SetString rewrites the value of key, or adds a line for a key that is not
// there. It does not turn a list into a string.
func (c *Config) SetString(key, text string) error {
	pieces := c.pieces(key)
	switch {
	case len(pieces) == 0:
		return c.append(key, text)
	case len(pieces) > 1:
		return fmt.Errorf("config key %s: its value is put together by +=; write it in one piece first", key)
	case pieces[0].value.isList:
		return fmt.Errorf("config key %s: is a list; set its items one by one", key)
	}
	return c.replace(key, pieces[0].value.atom, text)
}

// SetListItem rewrites item i (from 0) of what List returns, and nothing else.
func (c *Config) SetListItem(key string, i int, text string) error {
	items := atoms(c.pieces(key))
	if i < 0 || i >= len(items) {
		return fmt.Errorf("config key %s: has %d items, no item %d", key, len(items), i)
	}
	return c.replace(key, items[i], text)
}

// pieces are the assignments that make up the value of key.
func (c *Config) pieces(key string) []setting {
	var pieces []setting
	for _, s := range c.settings {
		if s.key != key {
			continue
		}
		if !s.add {
			pieces = pieces[:0]
		}
		pieces = append(pieces, s)
	}
	return pieces
}

func atoms(pieces []setting) []atom {
	var list []atom
	var walk func(v value)
	walk = func(v value) {
		if !v.isList {
			list = append(list, v.atom)
		}
		for _, item := range v.items {
			walk(item)
		}
	}
	for _, s := range pieces {
		walk(s.value)
	}
	return list
}

// replace puts a new literal in the place of a; quotes stay of the kind they were.
func (c *Config) replace(key string, a atom, text string) error {
	quote := a.quote
	if quote == 0 {
		quote = '"'
	}
	lit, err := literal(text, quote)
	if err != nil {
		return fmt.Errorf("config key %s: %w", key, err)
	}
	if a.quote == 0 && isNumber(text) {
		lit = text
	}
	return c.edit(key, slices.Concat(c.src[:a.from], []byte(lit), c.src[a.to:]))
}

// append adds a line in the file's own style of line ends; a file without a
// final line end stays one.
func (c *Config) append(key, text string) error {
	lit, err := literal(text, '"')
	if err != nil {
		return fmt.Errorf("config key %s: %w", key, err)
	}
	end := "\n"
	if bytes.Contains(c.src, []byte("\r\n")) {
		end = "\r\n"
	}
	line := key + " = " + lit
	if n := len(c.src); n == 0 || c.src[n-1] == '\n' {
		line += end
	} else {
		line = end + line
	}
	return c.edit(key, slices.Concat(c.src, []byte(line)))
}

// edit takes the new text over if it still is a config.
func (c *Config) edit(key string, src []byte) error {
	settings, err := parseSettings(src)
	if err != nil {
		return fmt.Errorf("config key %s: %w", key, err)
	}
	c.src, c.settings = src, settings
	return nil
}

// literal writes text so that xl reads it back. Only a line end needs to be
// escaped; xl takes all other bytes as they are, and knows no \xHH.
func literal(text string, quote byte) (string, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return "", errors.New("a value cannot hold a NUL byte")
	}
	b := []byte{quote}
	for i := range len(text) {
		switch ch := text[i]; ch {
		case quote, '\\':
			b = append(b, '\\', ch)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r') // a CR on its own is an editor's trap
		default:
			b = append(b, ch)
		}
	}
	return string(append(b, quote)), nil
}

func isNumber(s string) bool {
	if s == "" || !isDigit(s[0]) {
		return false
	}
	return strings.Trim(s, "0123456789abcdefx") == ""
}
