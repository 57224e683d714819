package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// ErrDamaged is wrapped when a journal holds something that no crash of a
// writer can have left. It needs an operator: nothing is skipped or repaired.
var ErrDamaged = errors.New("journal is damaged")

// FactArchived marks, as the first entry of a journal, that everything up to
// its Seq was moved to the old file. Only Archive writes it.
const FactArchived = "ARCHIVED"

// MaxLine is the longest line in bytes. Facts are small; the bound keeps a
// damaged or foreign file from being read into memory as one line.
const MaxLine = 1 << 20

// Entry is one fact this host has stated about the VM.
type Entry struct {
	Seq     uint64          `json:"seq"`               // grows by one, set by Append
	Time    time.Time       `json:"time"`              // for people; nothing is decided by it
	Attempt string          `json:"attempt,omitempty"` // the migration attempt it belongs to
	Epoch   uint64          `json:"epoch,omitempty"`   // the attempt's fencing token
	Fact    string          `json:"fact"`              // BEGIN, SEALED, READY, COMMITTING, …: opaque here
	Data    json.RawMessage `json:"data,omitempty"`    // whatever goes with the fact
}

// line is one line of the file. Sum covers the bytes of Entry exactly as written.
type line struct {
	Sum   string          `json:"sum"`
	Entry json.RawMessage `json:"entry"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli))
}

// encode returns e as one line with its line feed.
func encode(e Entry) ([]byte, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode fact %s: %w", strconv.Quote(e.Fact), err)
	}
	out, err := json.Marshal(line{Sum: sum(raw), Entry: raw})
	if err != nil {
		return nil, fmt.Errorf("encode fact %s: %w", strconv.Quote(e.Fact), err)
	}
	if len(out)+1 > MaxLine {
		return nil, fmt.Errorf("fact %s takes %d bytes, a line holds at most %d", strconv.Quote(e.Fact), len(out)+1, MaxLine)
	}
	return append(out, '\n'), nil
}

// decode reads one line without its line feed. It demands the very bytes that
// encode writes, so that no two readings of a line are possible.
func decode(b []byte) (Entry, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return Entry{}, fmt.Errorf("not a journal line: %w", err)
	}
	if got := sum(l.Entry); got != l.Sum {
		return Entry{}, fmt.Errorf("checksum is %s, the line says %q", got, l.Sum)
	}
	var e Entry
	if err := json.Unmarshal(l.Entry, &e); err != nil {
		return Entry{}, fmt.Errorf("not a journal entry: %w", err)
	}
	again, err := encode(e)
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again[:len(again)-1], b) {
		return Entry{}, errors.New("the line was not written by this program")
	}
	return e, nil
}

// parse splits the content of the file name into entries. whole is the number
// of bytes they take; what follows is the torn rest of a write that was never acknowledged.
func parse(name string, content []byte) (entries []Entry, whole int, err error) {
	for number := 1; ; number++ {
		end := bytes.IndexByte(content[whole:], '\n')
		if end < 0 {
			return entries, whole, nil
		}
		e, err := decode(content[whole : whole+end])
		if err == nil {
			err = follows(entries, e)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%s line %d: %w: %w; no promise of this host can be trusted until an operator has looked", name, number, ErrDamaged, err)
		}
		entries = append(entries, e)
		whole += end + 1
	}
}

// follows checks that e may stand behind before: a line that vanished or stands
// twice shows in the numbers.
func follows(before []Entry, e Entry) error {
	switch {
	case e.Seq == 0:
		return errors.New("entry without a number")
	case len(before) == 0 && e.Seq != 1 && e.Fact != FactArchived:
		return fmt.Errorf("the first entry is number %d, and nothing says that earlier ones were archived", e.Seq)
	case len(before) > 0 && e.Seq != before[len(before)-1].Seq+1:
		return fmt.Errorf("entry %d stands behind entry %d", e.Seq, before[len(before)-1].Seq)
	case len(before) > 0 && e.Fact == FactArchived:
		return errors.New("an archive mark that is not the first entry")
	}
	return nil
}
