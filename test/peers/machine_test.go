package main

import (
	"testing"
	"time"
)

func TestCounters(t *testing.T) {
	if d, err := parseUsage("usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n"); err != nil || d != 1234567*time.Microsecond {
		t.Errorf("%s, %v", d, err)
	}
	if _, err := parseUsage("user_usec 1\n"); err == nil {
		t.Error("no usage, no error")
	}
	dev := "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"  eth0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n    lo: 1000 10 0 0 0 0 0 0 2000 10 0 0 0 0 0 0\n"
	if n, err := parseSent(dev); err != nil || n != 2000 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseSent("eth0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n"); err == nil {
		t.Error("no loopback, no error")
	}
	stat := "cpu  100 20 30 4000 500 6 7 8 9 9\ncpu0 50 10 15 2000 250 3 3 4 0 0\ncpu1 50 10 15 2000 250 3 4 4 9 9\nintr 5\n"
	if d, n, err := parseBusy(stat); err != nil || n != 2 || d != 1710*time.Millisecond {
		t.Errorf("%s of %d, %v: idle, iowait and what guests had twice do not count", d, n, err)
	}
	if _, _, err := parseBusy("intr 5\n"); err == nil {
		t.Error("no processors, no error")
	}
}
