package xen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// CreateState is how Create leaves a domain.
type CreateState int

// The states a new domain can be left in.
const (
	Paused CreateState = iota
	Running
)

// Create makes a domain of a config file. A guest that runs may reboot or end
// before it is found: then the error is ErrNoDomain.
func (x XL) Create(ctx context.Context, path string, as CreateState) (Domain, error) {
	if strings.Contains(path, "=") {
		return Domain{}, fmt.Errorf("create a domain from %s: xl takes a path with = in it for a setting; rename the file", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Domain{}, fmt.Errorf("create a domain: %w", err)
	}
	who, err := identityOf(text)
	if err != nil {
		return Domain{}, fmt.Errorf("create a domain from %s: %w", path, err)
	}
	args := []string{"create", "-q"}
	if as == Paused {
		args = append(args, "-p")
	}
	if err := x.act(ctx, effect{args: append(args, "--", path)}); err != nil {
		return Domain{}, err
	}
	return x.made(ctx, who)
}

// Restore makes a domain of the memory image that r, a pipe of os.Pipe or a
// file, gives, and leaves it paused. An image that ends early leaves no domain.
// When xl fails the rest of r is not read: close it to end whoever writes there.
func (x XL) Restore(ctx context.Context, r *os.File) (Domain, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return Domain{}, fmt.Errorf("pipe for xl restore: %w", err)
	}
	var who identity
	fed := make(chan error, 1)
	go func() { // ends with r's end, with xl's, or by the deadline below
		_, err := io.Copy(MapImage(in, func(config []byte) (_ []byte, err error) {
			who, err = identityOf(config)
			return config, err
		}), r)
		in.Close()
		fed <- err
	}()
	err = x.act(ctx, effect{args: []string{"restore", "-p", "/dev/stdin"}, stdin: out})
	out.Close()
	_ = r.SetReadDeadline(time.Now()) // refused only by files, and those never keep a reader waiting
	feeding := <-fed
	if err != nil {
		if feeding != nil && !errors.Is(feeding, os.ErrDeadlineExceeded) && !errors.Is(feeding, syscall.EPIPE) {
			err = fmt.Errorf("%w: %w", feeding, err)
		}
		return Domain{}, err
	}
	return x.made(ctx, who)
}

// made finds the domain that a command has made.
func (x XL) made(ctx context.Context, who identity) (Domain, error) {
	all, err := x.List(context.WithoutCancel(ctx)) // it is made; who asked must know which it is
	if err != nil {
		return Domain{}, fmt.Errorf("look for the new domain %q: %w", who.name, err)
	}
	for _, d := range all {
		if who.is(d) {
			return d, nil
		}
	}
	return Domain{}, fmt.Errorf("%w: xl made domain %q and it is gone again", ErrNoDomain, who.name)
}

// identity is who a config says that its domain is.
type identity struct {
	name string
	uuid string // empty: xl makes one up
}

// identityOf reads a config file, or the JSON in the head of an image.
func identityOf(config []byte) (identity, error) {
	if text := strings.TrimSpace(string(config)); strings.HasPrefix(text, "{") {
		return storedIdentity(config)
	}
	c, err := ParseConfig(config)
	if err != nil {
		return identity{}, err
	}
	name, _ := c.String("name")
	uuid, _ := c.String("uuid")
	return identity{name: name, uuid: uuid}, nil
}

// is compares what `xl list` can show: it pads names, so that blanks at the end
// are lost there.
func (w identity) is(d Domain) bool {
	return d.Name == strings.TrimRight(w.name, " ") && (w.uuid == "" || plainUUID(d.UUID) == plainUUID(w.uuid))
}

// plainUUID: configs may write a UUID in capitals and without dashes.
func plainUUID(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
