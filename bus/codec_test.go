package bus

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"xmig/blocksync"
	"xmig/jobs"
)

func fullRecord() jobs.Record {
	at := time.Unix(1_700_000_000, 5).UTC()
	return jobs.Record{
		ID: job, VM: jobs.VMRef{UUID: vm1, Name: "web 01"}, Source: "hv1", Destination: "hv2",
		State: jobs.Running, Step: jobs.Seed, Done: []jobs.StepName{jobs.Check}, Attempt: 2, Epoch: 7,
		Spec:    jobs.Spec{Kind: jobs.KindMigrate, VM: "web 01", MaxDowntime: 5 * time.Second, Map: jobs.Mapping{Disks: map[string]string{"/a": "/b"}}},
		Plan:    jobs.Plan{Mode: jobs.Suspend, Guest: jobs.Guest{VM: jobs.VM{VMRef: jobs.VMRef{UUID: vm1, Name: "web 01"}, Memory: 64 << 20}, ConfigText: []byte("name=1\x00\xff")}},
		Held:    &jobs.Flag{Reason: "window", Since: at},
		Report:  jobs.Report{Passes: []jobs.PassReport{{Number: 1, Disks: []jobs.DiskReport{{Name: "xvda", Root: jobs.Digest{1, 2, 3}}}}}},
		Created: at, Updated: at,
	}
}

func TestCodecRoundTrip(t *testing.T) {
	want := fullRecord()
	data, err := Encode(want)
	must(t, err)
	var got jobs.Record
	must(t, Decode(data, &got))
	again, err := Encode(got)
	must(t, err)
	if !bytes.Equal(data, again) {
		t.Error("encoding what was decoded gives other bytes")
	}
	if got.Plan.Guest.UUID != vm1 || got.Report.Passes[0].Disks[0].Root != want.Report.Passes[0].Disks[0].Root || !got.Started.IsZero() || !got.Held.Since.Equal(want.Held.Since) {
		t.Errorf("got %+v", got)
	}
}

func TestCodecIsStrict(t *testing.T) {
	type small struct {
		A int `json:"a"`
	}
	type large struct {
		A int `json:"a"`
		B int `json:"b"`
	}
	good := value[[]byte](t)(Encode(small{1}))
	deep := append([]byte{codecVersion}, bytes.Repeat([]byte{0x91}, 1<<20)...)
	for name, data := range map[string][]byte{
		"empty":         {},
		"version":       append([]byte{codecVersion + 1}, good[1:]...),
		"trailing":      append(bytes.Clone(good), 0),
		"unknown field": value[[]byte](t)(Encode(large{1, 2})),
		"short":         good[:len(good)-1],
		"deep":          append(deep, 0xc0),
		"lying length":  {codecVersion, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"reserved type": {codecVersion, 0xc1},
		"oversize":      append([]byte{codecVersion, 0xc6, 0, 0x80, 0, 0}, make([]byte, maxMessage)...),
	} {
		var v small
		if err := Decode(data, &v); !errors.Is(err, errCodec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Encode(strings.Repeat("x", maxMessage+1)); err == nil {
		t.Error("an oversized value was encoded")
	}
}

// FuzzDecode: no input makes Decode panic or allocate by a lie, and what is
// accepted has one meaning: it survives another round.
func FuzzDecode(f *testing.F) {
	for _, v := range []any{fullRecord(), storedOwner{Owner: jobs.Owner{VM: vm1}}, beat{Taken: map[string]uint64{"a": 1}}, ticket{Job: job}} {
		data, err := Encode(v)
		must(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{new(storedRecord), new(jobs.Record), new(storedOwner), new(storedHost), new(beat), new(ticket), new(reply[goAnswer])} {
			if Decode(data, v) != nil {
				continue
			}
			again, err := Encode(v)
			must(t, err)
			w := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			must(t, Decode(again, w))
		}
	})
}

func randomFrame(payload []byte) *blocksync.Frame {
	f := &blocksync.Frame{Kind: blocksync.Kind(rand.Uint32()), Flags: blocksync.Flags(rand.Uint32()), Pass: rand.Uint32(), Index: int64(rand.Uint64()), Length: int(rand.Uint32())}
	for i := range f.Digest {
		f.Digest[i] = byte(rand.Uint32())
	}
	f.Payload = payload
	return f
}

func TestFrameRoundTrip(t *testing.T) {
	slab := make([]byte, blocksync.HeadRoom+blocksync.MaxPayload)
	for _, n := range []int{0, 1, 4096, blocksync.MaxPayload} {
		for _, withSlab := range []bool{false, true} {
			f := randomFrame(slab[blocksync.HeadRoom:][:n])
			if withSlab {
				f.Slab = slab
			}
			h := head{rand.Uint64(), uint8(rand.Uint32()), rand.Uint64()}
			data, err := encodeFrame(h, f, nil)
			must(t, err)
			if withSlab && n > 0 && &data[frameHead] != &slab[blocksync.HeadRoom] {
				t.Error("the payload was copied")
			}
			gh, gf, err := decodeFrame(data)
			must(t, err)
			if gh != h || gf.Kind != f.Kind || gf.Flags != f.Flags || gf.Pass != f.Pass || gf.Index != f.Index || gf.Length != f.Length || gf.Digest != f.Digest || !bytes.Equal(gf.Payload, f.Payload) {
				t.Fatalf("sent %+v, got %+v", f, gf)
			}
			if n > 0 && &gf.Payload[0] != &data[frameHead] {
				t.Error("the payload was copied on receipt")
			}
		}
	}
}

func TestFrameHeadIsMsgpack(t *testing.T) {
	data, err := encodeFrame(head{3, 200, 4}, &blocksync.Frame{Kind: 5, Index: -6, Length: 7}, nil)
	must(t, err)
	var v []any
	must(t, msgpack.Unmarshal(data[1:], &v))
	if len(v) != 9 || v[0] != uint64(3) || v[1] != uint8(200) || v[2] != uint64(4) || v[6] != int64(-6) {
		t.Errorf("a msgpack reader sees %v", v)
	}
}

func TestFrameRefusesWhatDoesNotFit(t *testing.T) {
	slab := make([]byte, blocksync.HeadRoom+8)
	for name, f := range map[string]*blocksync.Frame{
		"payload too large": {Payload: make([]byte, blocksync.MaxPayload+1)},
		"negative length":   {Length: -1},
		"slab elsewhere":    {Slab: slab, Payload: slab[:8]},
		"slab too short":    {Slab: slab[:100], Payload: make([]byte, 8)},
	} {
		if _, err := encodeFrame(head{}, f, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good, err := encodeFrame(head{}, &blocksync.Frame{}, nil)
	must(t, err)
	older := append([]byte{frameVersion - 1}, good[1:]...)
	if _, _, err := decodeFrame(older); !errors.Is(err, errCodec) || !strings.Contains(err.Error(), "same version at both ends") {
		t.Errorf("a frame of the version before: %v", err)
	}
	for _, at := range typeBytes {
		bad := bytes.Clone(good)
		bad[at.at]++
		if _, _, err := decodeFrame(bad); !errors.Is(err, errCodec) {
			t.Errorf("byte %d changed: %v", at.at, err)
		}
	}
}

// FuzzFrame: a frame has exactly one spelling.
func FuzzFrame(f *testing.F) {
	good, err := encodeFrame(head{1, 0, 2}, &blocksync.Frame{Kind: 1, Payload: []byte("abc")}, nil)
	must(f, err)
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, fr, err := decodeFrame(data)
		if err != nil {
			return
		}
		again, err := encodeFrame(h, &fr, nil)
		must(t, err)
		if !bytes.Equal(again, data) {
			t.Errorf("%x read and written is %x", data, again)
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	slab := make([]byte, blocksync.HeadRoom+blocksync.MaxPayload)
	f := &blocksync.Frame{Payload: slab[blocksync.HeadRoom:], Slab: slab, Length: blocksync.MaxPayload}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := encodeFrame(head{1, 0, 2}, f, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	data, err := encodeFrame(head{1, 0, 2}, f, nil)
	must(b, err)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := decodeFrame(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
