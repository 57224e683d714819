package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	// Longer than a socket's path may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := askHealth(dir); codeOf(err) != exitFailed {
		t.Errorf("nobody is there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, healthSocket), nil, 0o600); err != nil { // what a killed process left
		t.Fatal(err)
	}
	var wrong atomic.Pointer[string]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serveHealth(ctx, dir, func() error {
			if s := wrong.Load(); s != nil {
				return errors.New(*s)
			}
			return nil
		})
	}()
	for end := time.Now().Add(5 * time.Second); askHealth(dir) != nil; {
		if time.Now().After(end) {
			t.Fatal("no answer")
		}
		time.Sleep(time.Millisecond)
	}
	text := "no connection to the bus"
	wrong.Store(&text)
	if err := askHealth(dir); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := askHealth(dir); err == nil {
		t.Error("well after its end")
	}
}
