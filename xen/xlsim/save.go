package xlsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// saveDomain is `xl save`. Whatever fails, the guest goes on; only an xl that
// is killed leaves it suspended.
func (c *call) saveDomain(o options, args []string) int {
	if o.has('p') && o.has('c') {
		fmt.Fprint(c.stderr, "-c and -p are mutually exclusive\n")
		return 1
	}
	d, err := c.resolve(args[0])
	if err != nil {
		return c.fail(err, 1)
	}
	out, err := os.OpenFile(args[1], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		fmt.Fprintf(c.stderr, "Failed to open temp file %s for writing\n", args[1])
		return 1
	}
	defer out.Close()
	live := d.Config.live()
	live.CInfo.Name = d.Name
	config := strings.TrimSuffix(toJSON(live), "\n")
	header := savedHeader(config + "\n")
	fmt.Fprintf(c.stderr, "Saving to %s new xl format (info 0x%x/0x0/%d)\n", args[1], savedFlags, len(header)-savedHead)
	if _, err := out.Write(header); err != nil {
		fmt.Fprintf(c.stderr, "libxl: error: libxl_utils.c:506:libxl_write_exactly: failed to write to %s: %s\n", args[1], errnoText(err))
		return 1
	}
	s := &saving{c: c, d: d, out: out}
	if err := s.run(); err != nil {
		fmt.Fprint(c.stderr, s.text(err))
		fmt.Fprint(c.stderr, "Failed to save domain, resuming domain\n")
		if err := s.resume(); err != nil {
			c.complain("%v", err)
		}
		return 1
	}
	return c.afterSave(o, s)
}

// afterSave leaves the domain as the options say: paused, running, or gone.
func (c *call) afterSave(o options, s *saving) int {
	var err error
	switch {
	case o.has('p'):
		err = errors.Join(do(c.dir, s.d.ID, opPause), s.resume())
	case o.has('c'):
		err = s.resume()
	default:
		err = c.destroyDomain(s.d.ID)
	}
	if err != nil {
		return c.fail(err, 1)
	}
	return 0
}

// saving is one image being written.
type saving struct {
	c         *call
	d         *domain
	out       io.Writer
	suspended bool // by us, or already before
}

var errGone = errors.New("the domain is gone")

// run suspends the guest and writes its memory.
func (s *saving) run() error {
	s.announce()
	if err := s.suspend(); err != nil {
		return err
	}
	if err := s.write(s.pages); err != nil {
		return err
	}
	fmt.Fprintf(s.c.stderr, "xc: progress: End of stream: 0/0    0%%\n")
	return nil
}

// announce says what is being saved, as every image begins.
func (s *saving) announce() {
	kind := "x86 HVM"
	if s.d.Config.CInfo.Type == "pv" {
		kind = "x86 PV"
	}
	fmt.Fprintf(s.c.stderr, "xc: info: Saving domain %d, type %s\n", s.d.ID, kind)
}

// write writes the image; memory gives its pages.
func (s *saving) write(memory func(ram *os.File, out io.Writer) error) error {
	ram, err := os.Open(filepath.Join(runtimeDir(s.c.dir, s.d.ID), "ram"))
	if err != nil {
		return errGone
	}
	defer ram.Close()
	out := s.limited()
	var major, minor uint32
	if _, err := fmt.Sscanf(s.c.spec.XenVersion, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("xen version: %w", err)
	}
	if _, err := out.Write(imageStart(s.d.Config.CInfo.Type, major, minor)); err != nil {
		return err
	}
	if err := memory(ram, out); err != nil {
		return err
	}
	// A domain destroyed meanwhile must not leave an image that looks whole.
	if err := s.stillThere(); err != nil {
		return err
	}
	_, err = out.Write(imageEnd(s.d.Config.CInfo.Type))
	return err
}

// suspend asks the guest, and gives up after the timeout. A domain that is
// suspended already does not answer, and is saved all the same: so
// `save -c ID /dev/null` brings back one that was left suspended.
func (s *saving) suspend() error {
	if err := s.work(); err != nil {
		return err
	}
	err := do(s.c.dir, s.d.ID, opSuspend)
	if err == nil {
		s.suspended = true
		return changeDomain(s.c.dir, s.d.ID, func(_ *host, d *domain) error {
			d.Monitor = false // up to Xen 4.19 it ends when the guest suspends
			return nil
		})
	}
	if !errors.Is(err, errNoAnswer) && !errors.Is(err, errNotRunning) && !errors.Is(err, errLate) {
		return err
	}
	time.Sleep(s.c.spec.SuspendTimeout)
	if errors.Is(err, errLate) { // as the emulated lab told it
		fmt.Fprintf(s.c.stderr, "libxl: error: libxl_dom_suspend.c:372:suspend_common_wait_guest_timeout: Domain %d:guest did not suspend, timed out\n", s.d.ID)
		return errNoAnswer
	}
	fmt.Fprintf(s.c.stderr, "libxl: error: libxl_dom_suspend.c:269:domain_suspend_common_pvcontrol_suspending: Domain %d:guest didn't acknowledge suspend, cancelling request\n", s.d.ID)
	h, err := lockHost(s.c.dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	if d := h.byID(s.d.ID); d != nil && h.status(d).Suspended {
		s.suspended = true
		return nil
	}
	return errNoAnswer
}

// work makes this xl the one that works on the domain.
func (s *saving) work() error {
	err := changeDomain(s.c.dir, s.d.ID, func(_ *host, d *domain) error {
		d.Worker = thisProcess()
		return nil
	})
	if err != nil {
		return errGone
	}
	return nil
}

func (s *saving) stillThere() error {
	h, err := lockHost(s.c.dir)
	if err != nil {
		return err
	}
	defer h.unlock()
	if d := h.byID(s.d.ID); d == nil || d.Guest != s.d.Guest {
		return errGone
	}
	return nil
}

// resume lets the guest go on from where it stands; one that never stood is
// not touched.
func (s *saving) resume() error {
	if !s.suspended {
		return nil
	}
	return do(s.c.dir, s.d.ID, opResume)
}

// pages writes the whole memory, zero pages too, as libxc does.
func (s *saving) pages(ram *os.File, out io.Writer) error {
	total := int(s.d.Config.BInfo.MaxKB / 4)
	buf := make([]byte, batchPages*pageSize)
	for first := 0; first < total; first += batchPages {
		n := min(batchPages, total-first)
		if _, err := ram.ReadAt(buf[:n*pageSize], int64(first)*pageSize); err != nil {
			return fmt.Errorf("RAM: %w", err)
		}
		if _, err := out.Write(pageRecord(numbers(first, n))); err != nil {
			return err
		}
		if _, err := out.Write(buf[:n*pageSize]); err != nil {
			return err
		}
		if done := first + n; done%progressStep == 0 || done == total {
			fmt.Fprintf(s.c.stderr, "xc: progress: Frames: %d/%d  %3d%%\n", done, total, done*100/total)
		}
	}
	return nil
}

// text is what a real xl prints for a save that failed.
func (s *saving) text(err error) string {
	id := s.d.ID
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.EPIPE):
		return fmt.Sprintf("libxl: error: libxl_utils.c:505:libxl_read_exactly: file/stream truncated reading ipc msg header from domain %d save/restore helper stdout pipe\n", id) +
			fmt.Sprintf("libxl: error: libxl_exec.c:127:libxl_report_child_exitstatus: domain %d save/restore helper [%d] died due to fatal signal Broken pipe\n", id, os.Getpid())
	case errors.As(err, &errno):
		return fmt.Sprintf("xc: error: Failed to write page data to stream (%d = %s): Internal error\n", errno, errnoText(err)) +
			fmt.Sprintf("xc: error: Save failed (%d = %s): Internal error\n", errno, errnoText(err)) +
			fmt.Sprintf("libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain %d:saving domain: domain responded to suspend request: %s\n", id, errnoText(err))
	case errors.Is(err, errNoAnswer):
		return "xc: error: Domain has not been suspended: shutdown 0, reason 255: Internal error\n" +
			fmt.Sprintf("libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain %d:saving domain: domain did not respond to suspend request: Invalid argument\n", id)
	}
	return fmt.Sprintf("libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain %d:saving domain: %v\n", id, err)
}

// limited is the output at the host's save rate.
func (s *saving) limited() io.Writer {
	if s.c.spec.SaveRate <= 0 {
		return s.out
	}
	return &limitedWriter{w: s.out, limit: rate.NewLimiter(rate.Limit(s.c.spec.SaveRate), limitedPiece)}
}

// limitedPiece is what a limited writer passes on at a time.
const limitedPiece = 64 << 10

type limitedWriter struct {
	w     io.Writer
	limit *rate.Limiter
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		piece := p[done:min(done+limitedPiece, len(p))]
		if err := l.limit.WaitN(context.Background(), len(piece)); err != nil {
			return done, err
		}
		n, err := l.w.Write(piece)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
