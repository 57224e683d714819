package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"xmig/cmd/xmig/bench"
)

// daemons are the standing ends of ssh and rsync, with keys, ports and files
// of their own in one directory. They run at the destination.
type daemons struct {
	m     *machine
	dir   string
	ssh   []string // a client's command line up to the remote command
	rsync string   // address of the module that holds the disks
	ended []func() error
}

// Ports are free: nobody else is in the namespace.
const (
	sshPort   = 2022
	rsyncPort = 2873
	nbdPort   = 2809
	host      = "127.0.0.1"
)

// sshCipher is the fastest that OpenSSH has on processors with AES.
const sshCipher = "aes128-gcm@openssh.com"

func startDaemons(ctx context.Context, m *machine, dir, disks string) (d *daemons, err error) {
	d = &daemons{m: m, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.startSSH(ctx); err != nil {
		return d, err
	}
	return d, d.startRsync(ctx, disks)
}

func (d *daemons) path(name string) string { return filepath.Join(d.dir, name) }

func (d *daemons) startSSH(ctx context.Context) error {
	for _, key := range []string{"host", "user"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d.path(key)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	conf := fmt.Sprintf("Port %d\nListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nUsePAM no\nStrictModes no\n"+
		"PermitRootLogin prohibit-password\nPasswordAuthentication no\nCiphers %s\nCompression no\n",
		sshPort, host, d.path("host"), d.path("user.pub"), sshCipher)
	if err := os.WriteFile(d.path("sshd.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // its own, built in
		return err
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	d.ssh = []string{"ssh", "-F", "none", "-i", d.path("user"), "-p", strconv.Itoa(sshPort), "-c", sshCipher, "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "Compression=no", "root@" + host}
	return d.start(ctx, sshPort, sshd, "-D", "-e", "-f", d.path("sshd.conf"))
}

// startRsync gives the disks' directory away. Without the refusal of the
// refusal a daemon takes no --write-devices.
func (d *daemons) startRsync(ctx context.Context, disks string) error {
	conf := fmt.Sprintf("address = %s\nport = %d\nuse chroot = no\nuid = root\ngid = root\n\n[disks]\npath = %s\nread only = no\nrefuse options = !write-devices\n",
		host, rsyncPort, disks)
	if err := os.WriteFile(d.path("rsyncd.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	d.rsync = fmt.Sprintf("rsync://%s:%d/disks/", host, rsyncPort)
	return d.start(ctx, rsyncPort, "rsync", "--daemon", "--no-detach", "--config="+d.path("rsyncd.conf"), "--log-file="+d.path("rsyncd.log"))
}

// start starts a daemon at the destination and waits until it listens.
func (d *daemons) start(ctx context.Context, port int, name string, args ...string) error {
	stop, err := d.serve(ctx, port, name, args...)
	if err == nil {
		d.ended = append(d.ended, stop)
	}
	return err
}

// serve starts a server at the destination, for as long as stop is not called.
func (d *daemons) serve(ctx context.Context, port int, name string, args ...string) (stop func() error, err error) {
	group := d.m.groups[bench.Destination]
	standing, err := group.processes()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := d.m.in(bench.Destination, exec.CommandContext(ctx, name, args...))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	stop = func() error {
		select {
		case err := <-gone:
			if ctx.Err() != nil {
				return nil // with everything else
			}
			return fmt.Errorf("%s ended by itself: %w: %s", name, err, said.String())
		default:
		}
		if err := cmd.Process.Kill(); err != nil {
			return fmt.Errorf("end %s: %w", name, err)
		}
		<-gone
		return nil
	}
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			// Some fork for this very connection.
			return stop, errors.Join(c.Close(), group.settle(standing+1))
		}
		select {
		case err := <-gone:
			return nil, fmt.Errorf("%s does not start: %w: %s", name, err, said.String())
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// close ends the daemons that this process started.
func (d *daemons) close() error {
	var errs []error
	for _, end := range d.ended {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}
