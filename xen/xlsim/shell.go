package xlsim

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

const shell = "/bin/sh"

// transportCommand has the shell run a line, as xl does. A container may hold
// nothing but one binary: without a shell the line must be one plain command.
func transportCommand(line string) *exec.Cmd {
	if _, err := os.Stat(shell); !errors.Is(err, fs.ErrNotExist) {
		return exec.Command(shell, "-c", line)
	}
	words := plainWords(line)
	if len(words) > 0 && words[0] == "exec" {
		words = words[1:]
	}
	if len(words) == 0 {
		return exec.Command(shell, "-c", line) // says that there is no shell
	}
	return exec.Command(words[0], words[1:]...)
}

// plainWords splits a line at blanks outside of single quotes; outside of them
// a backslash takes its meaning from the next character.
func plainWords(line string) (words []string) {
	var word strings.Builder
	open, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'':
			open, begun = !open, true
		case c == '\\' && !open && i+1 < len(line):
			i++
			begun = true
			word.WriteByte(line[i])
		case c == ' ' && !open:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}
