package blocksync

import (
	"bytes"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

const benchSize = 256 * mib

// mixed is 35 % zero, 35 % random, 30 % compressible, in regions of some MiB.
func mixed(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	words := [][]byte{[]byte("domain "), []byte("suspend "), []byte("device "), []byte("0x00000001 "), []byte("resumed\n")}
	for at := 0; at < n; {
		region := b[at:min(n, at+(1+rng.IntN(4))*mib)]
		at += len(region)
		switch k := rng.IntN(100); {
		case k < 35:
		case k < 70:
			copy(region, randomBytes(rng.Uint64(), len(region)))
		default:
			for len(region) > 0 {
				region = region[copy(region, words[rng.IntN(len(words))]):]
			}
		}
	}
	return b
}

// scatter gives share of the pages random content and returns how many.
func scatter(b []byte, share float64, seed uint64) int {
	rng := rand.New(rand.NewPCG(seed, 9))
	pages := rng.Perm(len(b) / finePage)[:int(float64(len(b)/finePage)*share)]
	for _, p := range pages {
		copy(b[p*finePage:], randomBytes(rng.Uint64(), finePage))
	}
	return len(pages)
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// benchmark syncs src onto a fresh copy of dst each time and reports CPU
// seconds per GiB of disk, both ends and the lane together.
func benchmark(b *testing.B, src, dst []byte, set Settings) {
	p := newPair(b, src, dst)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	var cpu float64
	var wire, chunks int64
	for b.Loop() {
		b.StopTimer()
		if err := os.WriteFile(p.dst, dst, 0o600); err != nil {
			b.Fatal(err)
		}
		before := cpuSeconds()
		b.StartTimer()
		o := p.must(Pass{Number: 1}, set)
		b.StopTimer()
		cpu += cpuSeconds() - before
		wire, chunks = o.sent.Wire, o.sent.Chunks
		b.StartTimer()
	}
	gib := float64(b.N) * float64(len(src)) / (1 << 30)
	b.ReportMetric(cpu/gib, "cpu-s/GiB")
	b.ReportMetric(float64(wire)/(1<<20)/(float64(len(src))/(1<<30)), "wireMiB/GiB")
	b.ReportMetric(float64(chunks), "chunks/op")
}

func BenchmarkSeed(b *testing.B) {
	src := mixed(benchSize)
	for name, mode := range map[string]Compress{"plain": CompressOff, "zstd": CompressAuto} {
		b.Run(name, func(b *testing.B) { benchmark(b, src, make([]byte, len(src)), Settings{Compress: mode}) })
	}
}

func BenchmarkUnchanged(b *testing.B) {
	src := mixed(benchSize)
	benchmark(b, src, src, Settings{})
}

func BenchmarkScattered(b *testing.B) {
	dst := mixed(benchSize)
	src := bytes.Clone(dst)
	scatter(src, 0.02, 1)
	benchmark(b, src, dst, Settings{Compress: CompressOff})
}
