package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"xmig/xen/xlsim"
)

const servicePort = ":7700"

// Answer is what a guest finds when it is asked to verify itself.
type Answer struct {
	xlsim.Report
	Swapped int    // pages that came back from the swap disk as they went
	Error   string `json:",omitempty"` // why nothing could be proven
}

// service answers lines: "verify", "snapshot", and any other by itself.
type service struct{ pages *swapped }

func (s service) run(ctx context.Context, listener net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return g.Wait()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("service: %w", err), g.Wait())
		}
		g.Go(func() error {
			s.serve(ctx, conn)
			return nil // one caller's trouble is his own
		})
	}
}

func (s service) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if err := s.answer(ctx, conn, lines.Text()); err != nil {
			return
		}
	}
}

func (s service) answer(ctx context.Context, w io.Writer, line string) error {
	switch line {
	case "verify":
		return json.NewEncoder(w).Encode(s.verify(ctx))
	case "snapshot":
		expected, err := xlsim.Snapshot(ctx, simDir, simName)
		if err != nil {
			return json.NewEncoder(w).Encode(Answer{Error: err.Error()})
		}
		return json.NewEncoder(w).Encode(expected)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

func (s service) verify(ctx context.Context) Answer {
	report, err := xlsim.Verify(ctx, simDir, simName)
	a := Answer{Report: report}
	if err != nil {
		a.Error = err.Error()
	}
	var bad []string
	a.Swapped, bad = s.pages.check()
	a.Bad = append(a.Bad, bad...)
	return a
}

// askWithin bounds a question: a guest reads all its disk and RAM to answer.
const askWithin = 2 * time.Minute

// ask prints a guest's answer; it fails unless all is well.
func ask(ctx context.Context, address, question string, out io.Writer) error {
	if question != "verify" && question != "snapshot" {
		return errUsage
	}
	if !strings.Contains(address, ":") {
		address += servicePort
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := fmt.Fprintln(conn, question); err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	if _, err := out.Write(line); err != nil {
		return err
	}
	var a Answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	if a.Error != "" {
		return fmt.Errorf("ask %s: the guest says: %s", address, a.Error)
	}
	return a.Err()
}
