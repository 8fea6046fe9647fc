package settings

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"keelson/peer/process"
)

var keelsonPath = process.BinaryFlag()

// The programs, set by TestMain: both are called etcd. files is a directory for what trials read.
var (
	theirs, ours process.Program
	files        string
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "settings-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := prepare(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if code == 0 && flag.Lookup("test.run").Value.String() == "" {
			for _, rule := range unusedRules() {
				fmt.Fprintf(os.Stderr, "no trial differs by %q: take it out, here and in docs/differences.md\n", rule)
				code = 1
			}
		}
		return code
	}())
}

// prepare builds etcd, calls our binary etcd, and makes certificates.
func prepare(dir string) (err error) {
	if theirs, ours, err = process.Programs(dir, *keelsonPath); err != nil {
		return err
	}
	files = filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return err
	}
	return writeCertificates(files)
}

// freePorts finds n distinct ports that nobody listens on at 127.0.0.1.
func freePorts(t *testing.T, n int) (list []string) {
	t.Helper()
	addresses, err := process.FreeAddresses(n)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		_, port, _ := net.SplitHostPort(a)
		list = append(list, port)
	}
	return list
}
