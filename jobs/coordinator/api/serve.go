package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"
)

const (
	headerTime = 5 * time.Second
	readTime   = 30 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 16 << 10
	// endTime is for answers that are under way when the server ends.
	endTime = 5 * time.Second
)

// Serve answers on a listener until ctx ends; secure may be nil.
func (h *Handler) Serve(ctx context.Context, l net.Listener, secure *tls.Config) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		TLSConfig: secure, ErrorLog: log.New(h.log, "", 0),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		close(h.closing)
		end, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		if err := s.Shutdown(end); err != nil {
			_ = s.Close() // what is still under way is cut off
		}
	})
	var err error
	if secure != nil {
		err = s.ServeTLS(l, "", "")
	} else {
		err = s.Serve(l)
	}
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return context.Cause(ctx)
	}
	return fmt.Errorf("HTTP at %s: %w", l.Addr(), err)
}
