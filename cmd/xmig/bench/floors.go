package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"time"
	"unsafe"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"xmig/blocksync"
	"xmig/bus"
)

// Floor is a way of bytes from one process to the other that does nothing else.
type Floor string

const (
	RawTCP   Floor = "tcp"  // one connection, a MiB per write
	TLSTCP   Floor = "tls"  // the same with TLS 1.3
	BareLane Floor = "lane" // frames of a MiB over a lane; nothing is read, digested or written
)

// floorChannel is the one channel of a bare lane.
const floorChannel = "floor"

// Kinds of frames on a bare lane; blocksync has no part in it.
const (
	frameBytes blocksync.Kind = iota + 1
	frameEnd
)

// loopback is where a floor without a lane listens.
const loopback = "127.0.0.1:0"

// sink takes what a pump sends, and answers once when it has seen the end.
func (e *end) sink(ctx context.Context, f Floor) error {
	if f == BareLane {
		return e.sinkLane(ctx)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", loopback)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	first := answer{Where: where{Address: l.Addr().String()}}
	if f == TLSTCP {
		cert, err := selfSigned()
		if err != nil {
			return fmt.Errorf("sink: certificate: %w", err)
		}
		first.Where.Certificate = cert.Certificate[0]
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	}
	if err := e.ready(first); err != nil {
		return err
	}
	c, err := l.Accept()
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	defer c.Close()
	buf := make([]byte, blocksync.MaxPayload)
	for {
		if _, err := c.Read(buf); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("sink: %w", err)
		}
	}
	_, err = c.Write([]byte{1}) // all of it is here
	return err
}

// pump sends random bytes to a sink and waits until they are there.
func (e *end) pump(ctx context.Context, o order) error {
	if o.Floor == BareLane {
		return e.pumpLane(ctx, o)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.Where.Address)
	if err != nil {
		return fmt.Errorf("pump: %w", err)
	}
	defer c.Close()
	closeWrite := c.(*net.TCPConn).CloseWrite
	if o.Floor == TLSTCP {
		conf, err := trusting(o.Where.Certificate)
		if err != nil {
			return fmt.Errorf("pump: %w", err)
		}
		t := tls.Client(c, conf)
		c, closeWrite = t, t.CloseWrite
	}
	buf := randomPiece()[blocksync.HeadRoom:]
	for left := o.Bytes; left > 0; left -= int64(len(buf)) {
		if _, err := c.Write(buf[:min(left, int64(len(buf)))]); err != nil {
			return fmt.Errorf("pump: %w", err)
		}
	}
	if err := closeWrite(); err != nil {
		return fmt.Errorf("pump: %w", err)
	}
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		return fmt.Errorf("pump: the sink did not say that it has all: %w", err)
	}
	return nil
}

func (e *end) sinkLane(ctx context.Context) error {
	if e.lanes == nil {
		return errors.New("no server of the lanes was started")
	}
	lane, ticket, err := e.lanes.Open(ctx, bus.LaneSpec{Job: "floor", Epoch: 1, Channels: []string{floorChannel}})
	if err != nil {
		return err
	}
	defer lane.Close()
	if err := e.ready(answer{Where: where{Ticket: ticket}}); err != nil {
		return err
	}
	c := lane.Channel(floorChannel)
	back, _ := c.(blocksync.Releaser)
	for {
		f, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		if f.Kind == frameEnd {
			break
		}
		if back != nil {
			back.Release(&f)
		}
	}
	if err := c.Send(ctx, &blocksync.Frame{Kind: frameEnd}); err != nil {
		return err
	}
	return left(ctx, []*bus.LaneEnd{lane})
}

func (e *end) pumpLane(ctx context.Context, o order) error {
	lane, err := bus.DialLane(ctx, o.Where.Ticket, e.log)
	if err != nil {
		return err
	}
	defer lane.Close()
	c := lane.Channel(floorChannel)
	slab := randomPiece()
	for left := o.Bytes; left > 0; left -= blocksync.MaxPayload {
		n := int(min(left, blocksync.MaxPayload))
		f := blocksync.Frame{Kind: frameBytes, Length: n, Payload: slab[blocksync.HeadRoom:][:n], Slab: slab}
		if err := c.Send(ctx, &f); err != nil {
			return err
		}
	}
	if err := c.Send(ctx, &blocksync.Frame{Kind: frameEnd}); err != nil {
		return err
	}
	_, err = c.Recv(ctx)
	return err
}

// randomPiece is a slab of one frame with content that nothing compresses.
func randomPiece() []byte {
	b := aligned(blocksync.HeadRoom + blocksync.MaxPayload)
	fillRandom(b, 1)
	return b
}

// digest digests n bytes in chunks, as one reader of a disk does.
func digest(n int64) {
	b := randomPiece()[blocksync.HeadRoom:]
	for left := n; left > 0; left -= int64(len(b)) {
		blake3.Sum256(b)
	}
}

// readDirect reads a file past the page cache, or through it where the file
// system knows no other way, with one reader.
func readDirect(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.Open(path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	buf := aligned(blocksync.MaxPayload)
	for {
		if _, err := f.Read(buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// aligned gives n bytes that begin on a page.
func aligned(n int) []byte {
	b := make([]byte, n+Page)
	off := int(-uintptr(unsafe.Pointer(&b[0])) & (Page - 1))
	return b[off : off+n : off+n]
}

// selfSigned makes a certificate for one measurement.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "xmig-bench"}, DNSNames: []string{"xmig-bench"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func trusting(der []byte) (*tls.Config, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the sink's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "xmig-bench"}, nil
}
