package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"xmig/blocksync"
	"xmig/jobs"
)

func testLaneServer(t testing.TB, timeout time.Duration) *LaneServer {
	t.Helper()
	s, err := StartLaneServer(testContext(t), LaneServerConfig{Node: "hv2", Listen: "127.0.0.1", Dir: t.TempDir(), Timeout: timeout, Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// through makes the ticket lead over a proxy.
func through(t testing.TB, tk jobs.Ticket) (*proxy, jobs.Ticket) {
	t.Helper()
	k := value[ticket](t)(readTicket(tk))
	p := newProxy(t, k.Address)
	k.Address = p.address()
	return p, value[[]byte](t)(Encode(k))
}

func testLane(t testing.TB, s *LaneServer, spec LaneSpec) (src, dst *LaneEnd) {
	t.Helper()
	if spec.Job == "" {
		spec.Job = job
	}
	dst, tk, err := s.Open(testContext(t), spec)
	must(t, err)
	t.Cleanup(dst.Close)
	src, err = DialLane(testContext(t), tk, zerolog.Nop())
	must(t, err)
	t.Cleanup(src.Close)
	return src, dst
}

func frame(i int, n int) *blocksync.Frame {
	slab := make([]byte, blocksync.HeadRoom+n)
	f := &blocksync.Frame{Kind: 1, Index: int64(i), Length: n, Slab: slab, Payload: slab[blocksync.HeadRoom:]}
	if n >= 8 {
		binary.LittleEndian.PutUint64(f.Payload, uint64(i))
		binary.LittleEndian.PutUint64(f.Payload[n-8:], uint64(i))
	}
	return f
}

// TestLaneCarriesBothWays: frames of three channels in both directions, each
// in order, each once, through windows much smaller than what travels.
func TestLaneCarriesBothWays(t *testing.T) {
	ctx := testContext(t)
	src, dst := testLane(t, testLaneServer(t, 5*time.Second), LaneSpec{Epoch: 3, Channels: []string{"xvda", "xvdb", "memory"}, Window: 6 << 20})
	const frames, size = 40, 1 << 20
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := f(); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, name := range []string{"xvda", "xvdb", "memory"} {
		for _, way := range []struct {
			from, to blocksync.Lane
			size     int
		}{{src.Channel(name), dst.Channel(name), size}, {dst.Channel(name), src.Channel(name), 32 << 10}} {
			run(func() error {
				for i := range frames {
					f := frame(i, way.size)
					if err := way.from.Send(ctx, f); err != nil {
						return err
					}
					clear(f.Slab) // it is the caller's again
				}
				return nil
			})
			run(func() error {
				for i := range frames {
					f, err := way.to.Recv(ctx)
					if err != nil {
						return err
					}
					if f.Index != int64(i) || !bytes.Equal(f.Payload, frame(i, way.size).Payload) {
						return fmt.Errorf("frame %d of %d bytes came as number %d", f.Index, len(f.Payload), i)
					}
				}
				return nil
			})
		}
	}
	wg.Wait()
	if src.Channel("xvdc") != nil {
		t.Error("a channel that nobody opened")
	}
}

// TestLaneCredit: a channel that nobody reads stops its sender at its window
// and no other, and gives the way free again.
func TestLaneCredit(t *testing.T) {
	ctx := testContext(t)
	src, dst := testLane(t, testLaneServer(t, 5*time.Second), LaneSpec{Epoch: 1, Channels: []string{"slow", "fast"}, Window: 4 << 20})
	slow, fast := src.Channel("slow"), src.Channel("fast")
	sent := 0
	for {
		try, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		err := slow.Send(try, frame(sent, 512<<10))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		must(t, err)
		sent++
	}
	if sent != 3 { // a fourth frame with its head is over 2 MiB
		t.Errorf("%d frames of 512 KiB fit into a window of 2 MiB", sent)
	}
	for i := range 64 { // many times the stream's size
		must(t, fast.Send(ctx, frame(i, 1<<20)))
		if f, err := dst.Channel("fast").Recv(ctx); err != nil || f.Index != int64(i) {
			t.Fatalf("frame %d: %d, %v", i, f.Index, err)
		}
	}
	for i := range sent + 1 {
		if i == 1 {
			must(t, slow.Send(ctx, frame(sent, 512<<10)))
		}
		f, err := dst.Channel("slow").Recv(ctx)
		must(t, err)
		if f.Index != int64(i) || binary.LittleEndian.Uint64(f.Payload) != uint64(i) {
			t.Errorf("frame %d came as %d", i, f.Index)
		}
	}
}

func wantLost(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.Is(err, blocksync.ErrLaneLost) || jobs.CodeOf(err) != jobs.CodeLane || jobs.ClassOf(err) != jobs.Retry || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("got %v, want a lost lane because of %q", err, text)
	}
}

// TestLaneLost: both ends learn that the lane is lost, soon and for good.
func TestLaneLost(t *testing.T) {
	const timeout = time.Second
	recvErr := func(t *testing.T, e *LaneEnd) error {
		_, err := e.Channel("xvda").Recv(testContext(t))
		return err
	}
	for name, c := range map[string]struct {
		act      func(p *proxy, src, dst *LaneEnd)
		atSource string
		atDest   string
	}{
		"connection cut": {func(p *proxy, _, _ *LaneEnd) { p.cut() }, "connection", "silent"},
		"link hangs":     {func(p *proxy, _, _ *LaneEnd) { p.set(func(p *proxy) { p.hang = true }) }, "", "silent"},
		"source closes":  {func(_ *proxy, src, _ *LaneEnd) { src.Close() }, "closed", "closed by the source"},
		"dest closes":    {func(_ *proxy, _, dst *LaneEnd) { dst.Close() }, "", "closed"},
		"wrong epoch": {func(_ *proxy, src, _ *LaneEnd) {
			m, _ := encodeFrame(head{99, 0, 1}, frame(0, 10), nil)
			_ = src.nc.Publish(src.subject, m)
		}, "", "epoch 99"},
		"gap": {func(_ *proxy, src, _ *LaneEnd) {
			m, _ := encodeFrame(head{1, 0, 3}, frame(0, 10), nil)
			_ = src.nc.Publish(src.subject, m)
		}, "", "frames 2 to 2 are missing"},
		"repeat": {func(_ *proxy, src, _ *LaneEnd) {
			m, _ := encodeFrame(head{1, 0, 1}, frame(0, 10), nil)
			_ = src.nc.Publish(src.subject, m)
		}, "", "came again"},
		"no such channel": {func(_ *proxy, src, _ *LaneEnd) {
			m, _ := encodeFrame(head{1, 1, 1}, frame(0, 10), nil)
			_ = src.nc.Publish(src.subject, m)
		}, "", "channel 1, there are 1"},
		"last frame lost": {func(_ *proxy, src, _ *LaneEnd) {
			c := src.channels["xvda"]
			c.mu.Lock()
			c.sentSeq++ // as if the server had refused it
			c.mu.Unlock()
		}, "", "did not arrive"},
		"not a frame": {func(_ *proxy, src, _ *LaneEnd) {
			_ = src.nc.Publish(src.subject, []byte("garbage"))
		}, "", "frame"},
		"window overrun": {func(_ *proxy, src, _ *LaneEnd) {
			for i := range 2 {
				m, _ := encodeFrame(head{1, 0, uint64(i + 2)}, frame(0, 1<<20), nil)
				_ = src.nc.Publish(src.subject, m)
			}
		}, "", "window"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testLaneServer(t, timeout)
			dst, tk, err := s.Open(testContext(t), LaneSpec{Job: job, Epoch: 1, Channels: []string{"xvda"}, Window: 2 << 20})
			must(t, err)
			defer dst.Close()
			p, tk := through(t, tk)
			src, err := DialLane(testContext(t), tk, zerolog.Nop())
			must(t, err)
			defer src.Close()
			must(t, src.Channel("xvda").Send(testContext(t), frame(0, 10)))
			if _, err := dst.Channel("xvda").Recv(testContext(t)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			c.act(p, src, dst)
			if name == "window overrun" {
				<-dst.Lost()
				for err = nil; err == nil; {
					_, err = dst.Channel("xvda").Recv(testContext(t))
				}
				wantLost(t, err, c.atDest)
			} else {
				wantLost(t, recvErr(t, dst), c.atDest)
			}
			if name != "connection cut" && name != "link hangs" {
				dst.Close() // what a worker does with a lost lane
			}
			wantLost(t, recvErr(t, src), c.atSource)
			wantLost(t, src.Channel("xvda").Send(testContext(t), frame(0, 10)), c.atSource)
			if took := time.Since(began); took > 4*timeout {
				t.Errorf("noticed after %s", took)
			}
		})
	}
}

// TestLaneGoodByeComesLast: what was sent before Close arrives, though the good-bye overtakes it.
func TestLaneGoodByeComesLast(t *testing.T) {
	src, dst := testLane(t, testLaneServer(t, 5*time.Second), LaneSpec{Epoch: 1, Channels: []string{"xvda"}})
	for i := range 2 {
		must(t, src.Channel("xvda").Send(testContext(t), frame(i, 1<<20)))
	}
	src.Close()
	for i := range 2 {
		f, err := dst.Channel("xvda").Recv(testContext(t))
		if err != nil || f.Index != int64(i) {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	_, err := dst.Channel("xvda").Recv(testContext(t))
	wantLost(t, err, "closed by the source")
}

// TestLaneCredential: a ticket opens its own lane, while it is open, and nothing else.
func TestLaneCredential(t *testing.T) {
	s := testLaneServer(t, 2*time.Second)
	ctx := testContext(t)
	a, ta, err := s.Open(ctx, LaneSpec{Job: job, Epoch: 1, Channels: []string{"xvda"}})
	must(t, err)
	_, tb, err := s.Open(ctx, LaneSpec{Job: jo2, Epoch: 1, Channels: []string{"xvda"}})
	must(t, err)
	kb := value[ticket](t)(readTicket(tb))

	wrong := kb
	wrong.Secret += "x"
	if _, err := DialLane(ctx, value[[]byte](t)(Encode(wrong)), zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("with a wrong secret: %v", err)
	}
	other := testLaneServer(t, 2*time.Second)
	wrong = kb
	wrong.Certificate = other.cert
	if _, err := DialLane(ctx, value[[]byte](t)(Encode(wrong)), zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("to a server with another certificate: %v", err)
	}
	plain := value[net.Conn](t)(net.Dial("tcp", kb.Address))
	must(t, plain.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = fmt.Fprintf(plain, "CONNECT {\"user\":%q,\"pass\":%q}\r\nPING\r\n", kb.User, kb.Secret)
	must(t, err)
	if said, err := io.ReadAll(plain); errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(said, []byte("PONG")) {
		t.Errorf("a readable password: %v, %q", err, said)
	}
	_ = plain.Close()
	if _, err := nats.Connect("nats://"+kb.Address, nats.UserInfo(kb.User, kb.Secret)); err == nil {
		t.Error("let in without TLS")
	}

	// B's source can neither send into A's lane nor listen to it.
	violations := make(chan error, 10)
	nc, err := kb.connect(ctx, func(err error) { violations <- err }, &wires{})
	must(t, err)
	defer nc.Close()
	for _, subject := range []string{s.names.lane(a.spec, laneChunk), s.names.lane(kb.spec(), laneDigest), s.names.lane(kb.spec(), "source", laneIntake), s.names.lane(kb.spec(), "destination", laneIntake),
		s.names.lane(a.spec, "source", laneCredit), "$JS.API.STREAM.DELETE." + laneStream(jo2, laneDigest), "$JS.API.CONSUMER.MSG.NEXT." + laneStream(job, laneDigest) + ".source"} {
		must(t, nc.Publish(subject, nil))
		if err := <-violations; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	for _, subject := range []string{s.names.lane(a.spec, laneChunk), s.names.lane(a.spec, "destination", laneCredit), s.names.lane(a.spec, "source", laneIntake),
		s.names.lane(kb.spec(), "destination", laneIntake), "_INBOX_x.>"} {
		_, err := nc.SubscribeSync(subject)
		must(t, err)
		if err := <-violations; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("listening to %s: %v", subject, err)
		}
	}

	a.Close()
	if _, err := DialLane(ctx, ta, zerolog.Nop()); err == nil {
		t.Error("let in to a lane that is closed")
	}
}

// TestLaneOpenedAnew: a new lane of the same job ends the one before.
func TestLaneOpenedAnew(t *testing.T) {
	s := testLaneServer(t, 5*time.Second)
	src, dst := testLane(t, s, LaneSpec{Epoch: 1, Channels: []string{"xvda"}})
	src2, dst2 := testLane(t, s, LaneSpec{Epoch: 2, Channels: []string{"xvda"}})
	_, err := dst.Channel("xvda").Recv(testContext(t))
	wantLost(t, err, "closed")
	_, err = src.Channel("xvda").Recv(testContext(t))
	wantLost(t, err, "")
	must(t, src2.Channel("xvda").Send(testContext(t), frame(7, 9)))
	if f, err := dst2.Channel("xvda").Recv(testContext(t)); err != nil || f.Index != 7 {
		t.Errorf("%+v, %v", f, err)
	}
	src2.Close()
	dst2.Close()
	eventually(t, "all connections of closed lanes end", func() bool { return s.s.NumClients() == 0 })
}

func TestLaneSettings(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	cfg := LaneServerConfig{Node: "hv2", Listen: "127.0.0.1", Dir: t.TempDir(), Ports: PortRange{port, port}, Log: zerolog.Nop()}
	if _, err := StartLaneServer(testContext(t), cfg); err == nil || !strings.Contains(err.Error(), "no port of") {
		t.Errorf("on a port in use: %v", err)
	}
	cfg.Ports = PortRange{port, port + 20}
	cfg.Listen = "lo"
	s, err := StartLaneServer(testContext(t), cfg)
	must(t, err)
	defer s.Close()
	if _, got, _ := net.SplitHostPort(s.Address()); got == strconv.Itoa(port) {
		t.Errorf("listens on %s", s.Address())
	}
	for _, bad := range []string{"nosuchif0", "0.0.0.0"} {
		cfg.Listen, cfg.Ports = bad, PortRange{}
		if _, err := StartLaneServer(testContext(t), cfg); err == nil || jobs.CodeOf(err) != jobs.CodeUsage {
			t.Errorf("listen on %s: %v", bad, err)
		}
	}
	for in, want := range map[string]PortRange{"": {}, "7400": {7400, 7400}, "7400-7449": {7400, 7449}} {
		if got, err := ParsePorts(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"x", "0", "9-8", "1-99999"} {
		if got, err := ParsePorts(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	for _, spec := range []LaneSpec{{Job: "a.b", Channels: []string{"x"}}, {Job: job}, {Job: job, Channels: []string{"x", "x"}}, {Job: job, Channels: []string{"x*"}}, {Job: job, Channels: []string{"x"}, Window: 1 << 30}} {
		if _, _, err := s.Open(testContext(t), spec); err == nil {
			t.Errorf("opened %+v", spec)
		}
	}
}

// TestLaneHoldsWhatIsUnderWay: a lane with many channels keeps no frame in
// its streams that was taken, whatever went through it.
func TestLaneHoldsWhatIsUnderWay(t *testing.T) {
	s := testLaneServer(t, 15*time.Second)
	var names []string
	for i := range 12 {
		names = append(names, "xvd"+string(rune('a'+i)))
	}
	src, dst := testLane(t, s, LaneSpec{Epoch: 1, Channels: names})
	ctx := testContext(t)
	for range 3 {
		for i, name := range names {
			must(t, src.Channel(name).Send(ctx, frame(i, 1<<20)))
			f, err := dst.Channel(name).Recv(ctx)
			must(t, err)
			dst.Channel(name).(blocksync.Releaser).Release(&f)
			must(t, dst.Channel(name).Send(ctx, frame(i, 100)))
			_, err = src.Channel(name).Recv(ctx)
			must(t, err)
		}
	}
	js := value[jetstream.JetStream](t)(jetstream.New(dst.nc))
	for _, what := range []string{laneChunk, laneDigest} {
		st := value[jetstream.Stream](t)(js.Stream(ctx, laneStream(job, what)))
		eventually(t, "the stream of "+what+"s is empty", func() bool {
			state := value[*jetstream.StreamInfo](t)(st.Info(ctx)).State
			return state.Msgs == 0 && state.LastSeq == 3*12
		})
	}
}

// BenchmarkLane measures one direction of one lane with TLS over loopback,
// both ends and the server in this process.
func BenchmarkLane(b *testing.B) {
	src, dst := testLane(b, testLaneServer(b, 15*time.Second), LaneSpec{Epoch: 1, Channels: []string{"xvda"}})
	ctx := context.Background()
	f := frame(0, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	runtime.GC()
	var before, after syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
	b.ResetTimer()
	ended := make(chan error, 1)
	go func() {
		for range b.N {
			if _, err := dst.Channel("xvda").Recv(ctx); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for range b.N {
		if err := src.Channel("xvda").Send(ctx, f); err != nil {
			b.Fatal(err)
		}
	}
	must(b, <-ended)
	b.StopTimer()
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
	cpu := time.Duration(after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano())
	b.ReportMetric(cpu.Seconds()*1024/float64(b.N), "cpu-s/GiB")
}

// TestLanesCounted: who sizes the process by its open lanes hears each change.
func TestLanesCounted(t *testing.T) {
	var mu sync.Mutex
	var told []int
	s, err := StartLaneServer(testContext(t), LaneServerConfig{Node: "hv2", Listen: "127.0.0.1", Dir: t.TempDir(), Log: zerolog.Nop(),
		Opened: func(n int) { mu.Lock(); defer mu.Unlock(); told = append(told, n) }})
	must(t, err)
	defer s.Close()
	for _, j := range []string{job, jo2, job} { // the third takes the place of the first
		_, _, err := s.Open(testContext(t), LaneSpec{Job: j, Epoch: 1, Channels: []string{"xvda"}})
		must(t, err)
	}
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	if want := []int{1, 2, 1, 2, 1, 0}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
