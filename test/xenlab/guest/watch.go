package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const watchPort = ":7600"

// What a line of the record says: NANOSECONDS KIND GUEST BOOT NUMBER.
const (
	kindBeat  = "beat"  // a heartbeat came
	kindEcho  = "echo"  // an answer came, on a connection that was open before
	kindTwice = "twice" // a heartbeat came for the second time: two copies ran
	kindLost  = "lost"  // the connection ended
)

// watcher records what it hears of all guests.
type watcher struct {
	mu    sync.Mutex
	out   *bufio.Writer
	heard map[string]map[uint64]bool // heartbeats, by guest and boot
}

// watch records for ever. It appends: one file tells a whole run of the lab.
func watch(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", watchPort)
	if err != nil {
		return errors.Join(fmt.Errorf("watch: %w", err), f.Close())
	}
	w := &watcher{out: bufio.NewWriter(f), heard: map[string]map[uint64]bool{}}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return conn.Close()
	})
	g.Go(func() error { return w.listen(ctx, conn, g) })
	return errors.Join(g.Wait(), f.Close())
}

// listen takes heartbeats; the first one of a boot begins an echo with it.
func (w *watcher) listen(ctx context.Context, conn net.PacketConn, echoes *errgroup.Group) error {
	buf := make([]byte, 1024)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		var guest, boot string
		var number uint64
		if _, err := fmt.Sscan(string(buf[:n]), &guest, &boot, &number); err != nil {
			continue // no heartbeat
		}
		isNew, err := w.beat(guest, boot, number)
		if err != nil {
			return err
		}
		if isNew {
			host, _, _ := net.SplitHostPort(from.String())
			echoes.Go(func() error { return w.echo(ctx, guest, boot, host) })
		}
	}
}

func (w *watcher) beat(guest, boot string, number uint64) (isNew bool, err error) {
	key := guest + " " + boot
	numbers := w.heard[key]
	if numbers == nil {
		numbers, isNew = map[uint64]bool{}, true
		w.heard[key] = numbers
	}
	kind := kindBeat
	if numbers[number] {
		kind = kindTwice
	}
	numbers[number] = true
	return isNew, w.record(kind, guest, boot, number)
}

// record writes a line at once: whoever reads the file sees the last beat.
func (w *watcher) record(kind, guest, boot string, number uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, "%d %s %s %s %d\n", time.Now().UnixNano(), kind, guest, boot, number)
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// echo keeps one connection with a guest for as long as that boot lasts, and
// sends a number at every beat. The connection must live through a migration.
func (w *watcher) echo(ctx context.Context, guest, boot, host string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, strings.TrimPrefix(servicePort, ":")), time.Minute)
	if err != nil {
		return w.record(kindLost, guest, boot, 0)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	go w.send(conn)
	lines := bufio.NewScanner(conn)
	last := uint64(0)
	for lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			return fmt.Errorf("echo from %s: %q", guest, lines.Text())
		}
		if err := w.record(kindEcho, guest, boot, last); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return w.record(kindLost, guest, boot, last)
}

// send ends with the connection.
func (w *watcher) send(conn net.Conn) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		<-tick.C
		if _, err := fmt.Fprintln(conn, n); err != nil {
			return
		}
	}
}
