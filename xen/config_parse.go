package xen

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrPython says that a config is a program for the old `xm`. Such a file is
// never evaluated here.
var ErrPython = errors.New("likely Python, a config for xm")

// ConfigError says where a config file stops to be one, and what to do.
type ConfigError struct {
	Line, Column int // both from 1; the column counts bytes
	Problem      string
	Hint         string
	python       bool
}

func (e *ConfigError) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
	if e.python {
		s += ": " + ErrPython.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap makes errors.Is(err, ErrPython) true for programs.
func (e *ConfigError) Unwrap() error {
	if e.python {
		return ErrPython
	}
	return nil
}

// maxListDepth bounds nesting: xl's own parser has a stack of limited depth too.
const maxListDepth = 64

// parser walks over the source once. The grammar is that of xl: assignments
// ended by a line end or a semicolon, strings, numbers and lists.
type parser struct {
	src []byte
	at  int
}

func parseSettings(src []byte) ([]setting, error) {
	p := &parser{src: src}
	var settings []setting
	for {
		p.blanks()
		switch ch := p.peek(); {
		case p.at == len(p.src):
			return settings, nil
		case ch == '\n' || ch == ';':
			p.at++
		default:
			begin := parser{src: src, at: p.at}
			s, err := p.setting()
			if err != nil {
				return nil, err
			}
			if was := last(settings, s.key); s.add && was != nil && was.value.isList != s.value.isList {
				return nil, begin.fail("key "+s.key+": += joins a list and a string", "make both of one kind")
			}
			settings = append(settings, s)
		}
	}
}

// last is the last setting of a key, nil for none.
func last(settings []setting, key string) *setting {
	for i := range slices.Backward(settings) {
		if settings[i].key == key {
			return &settings[i]
		}
	}
	return nil
}

// peek is the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.src) {
		return p.src[p.at]
	}
	return 0
}

// blanks skips what means nothing inside a line: blanks, a comment, and the CR
// of a CRLF.
func (p *parser) blanks() {
	for p.at < len(p.src) {
		switch ch := p.src[p.at]; {
		case ch == ' ' || ch == '\t':
			p.at++
		case ch == '\r' && p.at+1 < len(p.src) && p.src[p.at+1] == '\n':
			p.at++
		case ch == '#':
			for p.at < len(p.src) && p.src[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

// space also skips line ends: inside a list they mean nothing.
func (p *parser) space() {
	for p.blanks(); p.peek() == '\n'; p.blanks() {
		p.at++
	}
}

func (p *parser) setting() (setting, error) {
	from := p.at
	key := p.word()
	if err := p.checkKey(key, from); err != nil {
		return setting{}, err
	}
	p.blanks()
	s := setting{key: key}
	if p.peek() == '+' && p.at+1 < len(p.src) && p.src[p.at+1] == '=' {
		s.add = true
		p.at++
	}
	if p.peek() != '=' {
		return s, p.unexpected(fmt.Sprintf("after the key %s", key), "want = and a value")
	}
	p.at++
	if p.peek() == '=' {
		return s, p.python("a comparison")
	}
	p.blanks()
	v, err := p.value(0)
	if err != nil {
		return s, err
	}
	s.value = v
	p.blanks()
	if ch := p.peek(); p.at < len(p.src) && ch != '\n' && ch != ';' {
		return s, p.unexpected("after the value of "+key, "one setting a line")
	}
	return s, nil
}

// word is a run of identifier characters, upper case too so that errors can name it.
func (p *parser) word() string {
	from := p.at
	for p.at < len(p.src) {
		ch := p.src[p.at]
		if !isLetter(ch) && !(p.at > from && (isDigit(ch) || ch == '.')) {
			break
		}
		p.at++
	}
	return string(p.src[from:p.at])
}

// pythonWords begin lines of programs and are no keys of xl.
var pythonWords = []string{"import", "from", "def", "if", "elif", "else", "for", "while", "try", "except",
	"class", "return", "print", "with", "exec", "del", "global", "pass", "raise", "lambda"}

func (p *parser) checkKey(key string, from int) error {
	here := &parser{src: p.src, at: from}
	switch {
	case key == "":
		return here.unexpected("where a key should begin", "keys begin with a lower-case letter")
	case slices.Contains(pythonWords, key) && !p.assigns():
		return here.python(fmt.Sprintf("%q", key))
	case strings.ToLower(key) != key || key[0] == '_':
		return here.fail(fmt.Sprintf("key %q", key), "keys are written in lower case and begin with a letter")
	}
	return nil
}

// assigns tells whether an assignment follows.
func (p *parser) assigns() bool {
	rest := strings.TrimLeft(string(p.src[p.at:min(p.at+80, len(p.src))]), " \t")
	return strings.HasPrefix(rest, "=") && !strings.HasPrefix(rest, "==") || strings.HasPrefix(rest, "+=")
}

func (p *parser) value(depth int) (value, error) {
	switch ch := p.peek(); {
	case ch == '[':
		return p.list(depth)
	case ch == '\'' || ch == '"':
		a, err := p.quoted(ch)
		return value{atom: a}, err
	case isDigit(ch):
		return value{atom: p.number()}, nil
	case isLetter(ch):
		from := p.at
		w := p.word()
		return value{}, (&parser{src: p.src, at: from}).python(fmt.Sprintf("%q is not in quotes", w))
	}
	return value{}, p.unexpected("where a value should begin", "want a string in quotes, a number or a [ list ]")
}

func (p *parser) list(depth int) (value, error) {
	if depth == maxListDepth {
		return value{}, p.fail("lists nested too deep", "")
	}
	open := p.at
	p.at++
	v := value{isList: true}
	for {
		p.space()
		if p.peek() == ']' {
			p.at++
			return v, nil
		}
		if p.at == len(p.src) {
			return v, (&parser{src: p.src, at: open}).fail("a list that begins here has no end", "close it with ]")
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.items = append(v.items, item)
		p.space()
		switch p.peek() {
		case ',':
			p.at++
		case ']':
		default:
			if p.at < len(p.src) {
				return v, p.unexpected("in a list", "items are separated by commas")
			}
		}
	}
}

func (p *parser) number() atom {
	from := p.at
	for p.at < len(p.src) && strings.IndexByte("0123456789abcdefx", p.src[p.at]) >= 0 {
		p.at++
	}
	return atom{text: string(p.src[from:p.at]), from: from, to: p.at}
}

// quoted reads a string; it ends in the line it begins in.
func (p *parser) quoted(quote byte) (atom, error) {
	from := p.at
	begin := &parser{src: p.src, at: from}
	if strings.HasPrefix(string(p.src[from:min(from+3, len(p.src))]), strings.Repeat(string(quote), 3)) {
		return atom{}, begin.python("a string in triple quotes")
	}
	p.at++
	var text []byte
	for p.at < len(p.src) {
		switch ch := p.src[p.at]; ch {
		case quote:
			p.at++
			return atom{text: string(text), quote: quote, from: from, to: p.at}, nil
		case '\n':
			return atom{}, begin.fail("a string that begins here has no end in its line", "a string cannot hold a line end; write \\n")
		case 0:
			return atom{}, p.fail("a NUL byte in a string", "")
		case '\\':
			b, err := p.escape()
			if err != nil {
				return atom{}, err
			}
			text = append(text, b)
		default:
			text = append(text, ch)
			p.at++
		}
	}
	return atom{}, begin.fail("a string that begins here has no end", "")
}

// simpleEscapes are the escapes of one letter.
var simpleEscapes = map[byte]byte{'"': '"', '\'': '\'', '\\': '\\', 'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// escape reads one escape sequence. Numbers are refused: xl makes an error of
// \xHH, and of \101 something else than what is written.
func (p *parser) escape() (byte, error) {
	if p.at+1 == len(p.src) {
		return 0, p.fail("a backslash at the end", "")
	}
	ch := p.src[p.at+1]
	if b, ok := simpleEscapes[ch]; ok {
		p.at += 2
		return b, nil
	}
	hint := `want one of \" \' \\ \a \b \f \n \r \t \v`
	if isDigit(ch) || ch == 'x' {
		hint = "xl reads no numbers after a backslash; write the byte itself"
	}
	return 0, p.fail(fmt.Sprintf("escape \\%s", printable(ch)), hint)
}

// unexpected fails at the next byte. What xl's grammar knows nowhere outside
// strings, and Python uses everywhere, is told apart.
func (p *parser) unexpected(where, hint string) error {
	if p.at == len(p.src) {
		return p.fail("end of file "+where, hint)
	}
	ch := p.src[p.at]
	switch {
	case strings.IndexByte("+-.():%{}*@", ch) >= 0:
		return p.python(fmt.Sprintf("%s %s", printable(ch), where))
	case ch == '\'' || ch == '"':
		if where == "in a list" {
			return p.fail("a string right after another one", "is a comma missing before it?")
		}
		return p.python("a string " + where)
	case ch == '\n':
		return p.fail("end of line "+where, hint)
	}
	return p.fail(fmt.Sprintf("%s %s", printable(ch), where), hint)
}

func (p *parser) python(what string) error {
	e := p.fail(what, "xl does not evaluate programs: write the values out, or see what xl made of it with `xl list -l`")
	e.python = true
	return e
}

func (p *parser) fail(problem, hint string) *ConfigError {
	e := &ConfigError{Line: 1, Problem: problem, Hint: hint}
	start := 0
	for i, ch := range p.src[:p.at] {
		if ch == '\n' {
			e.Line++
			start = i + 1
		}
	}
	e.Column = p.at - start + 1
	return e
}

func printable(ch byte) string {
	if ch > ' ' && ch < 0x7f {
		return string(ch)
	}
	return fmt.Sprintf("byte 0x%02x", ch)
}

func isLetter(ch byte) bool {
	return ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch == '_'
}

func isDigit(ch byte) bool { return ch >= '0' && ch <= '9' }
