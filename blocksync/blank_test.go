package blocksync

import (
	"context"
	"testing"
	"time"
)

// looks asks a destination with this content what it looks like.
func looks(t *testing.T, content []byte, change func(path string), pass Pass) bool {
	t.Helper()
	p := newPair(t, content, content)
	if change != nil {
		change(p.dst)
	}
	dst, err := OpenDestination(p.dst)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	layout, err := newPlan(int64(len(content)), MaxPayload, pass.Ranges)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{path: p.dst, meter: &meter{start: time.Now()}}
	r := newReceiver(w, &begin{plan: layout}, dst, Settings{Readers: 1})
	defer r.close()
	is, err := r.looksBlank(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return is
}

func TestLooksBlank(t *testing.T) {
	const size = blankSize + 3*kib // the last chunk has no page
	zeroes := make([]byte, size)
	some := make([]byte, size)
	for at := 0; at < size; at += 16 * mib { // a quarter
		copy(some[at:min(size, at+4*mib)], randomBytes(1, 4*mib))
	}
	for name, tc := range map[string]struct {
		content []byte
		change  func(path string)
		pass    Pass
		want    bool
	}{
		"zeroes":                         {zeroes, nil, Pass{}, true},
		"full":                           {randomBytes(1, size), nil, Pass{}, false},
		"a quarter":                      {some, nil, Pass{}, false},
		"small":                          {zeroes[:blankSize-1], nil, Pass{}, false},
		"a part of it":                   {zeroes, nil, Pass{Ranges: []Range{{0, size - 2*mib}}}, false},
		"a sparse file":                  {zeroes, func(path string) { dig(t, path) }, Pass{}, false},
		"sparse beside what was written": {some, func(path string) { dig(t, path) }, Pass{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := looks(t, tc.content, tc.change, tc.pass); got != tc.want {
				t.Errorf("it looks blank: %v", got)
			}
		})
	}
}

// TestBlankIsNotRead: of a blank device only those chunks are read that are to
// be zero, or in part, and what is zero is not written.
func TestBlankIsNotRead(t *testing.T) {
	const size = 96 * mib
	src := randomBytes(7, size)
	const zeroed = 20 * mib
	clear(src[8*mib:][:zeroed])
	const within = 24 * finePage // of one chunk
	clear(src[50*mib+5000:][:within+finePage])
	p := newPair(t, src, make([]byte, size))
	o := p.must(Pass{Number: 1, Final: true}, Settings{})
	p.equal()
	if most := int64(zeroed + mib + blankLooks*finePage); o.received.Read < zeroed || o.received.Read > most {
		t.Errorf("%d MiB were read, %d MiB are zero in the source", o.received.Read/mib, zeroed/mib)
	}
	if want := int64(size - zeroed); o.sent.Differing != want || o.received.Differing != want || o.received.Written != want-within {
		t.Errorf("%d and %d bytes differ, %d were written, want %d", o.sent.Differing, o.received.Differing, o.received.Written, want)
	}
	if o := p.must(Pass{Number: 2}, Settings{}); o.sent.Differed != 0 || o.received.Read < size {
		t.Errorf("then %d chunks differ, %d MiB are read", o.sent.Differed, o.received.Read/mib)
	}
}

// TestBlankByMistake: pages that nobody looked at, where the source has
// zeroes, or content, or the same.
func TestBlankByMistake(t *testing.T) {
	const size = blankSize
	src := randomBytes(8, size)
	clear(src[:size/2])
	clear(src[size-8*mib:][:500*kib]) // within a chunk
	old := make([]byte, size)
	copy(old[size-8*mib+100*kib:], randomBytes(9, finePage))
	for i := range 12 {
		copy(old[i*size/12+3*i*finePage:], randomBytes(9, finePage))
	}
	copy(old[size-mib:], src[size-mib:])
	p := newPair(t, src, old)
	o := p.must(Pass{Number: 1, Final: true}, Settings{blank: true, Verify: VerifyFull})
	p.equal()
	if !o.received.Verified || o.received.Zero == 0 {
		t.Errorf("verified %v, %d bytes zeroed", o.received.Verified, o.received.Zero)
	}
}
