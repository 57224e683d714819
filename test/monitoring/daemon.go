package monitoring

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"xmig/test/cluster"
)

// patience is how long a daemon may take to answer after its start.
const patience = 90 * time.Second

// port is free now; it is asked for because others must know it before the start.
func port(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", cluster.Ports(t, 1)[0])
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run starts a daemon that ends with the test. Its log is shown when the test failed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	logPath := filepath.Join(t.TempDir(), name+".log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; test/monitoring/install.sh installs it", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(logPath)
			t.Logf("%s:\n%s", name, text)
		}
	})
}

// await waits for a daemon to say that it is ready.
func await(t *testing.T, address string) {
	t.Helper()
	url := "http://" + address + "/-/ready"
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s", resp.Status)
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", url, err)
		}
	}
}
