package main

import (
	"embed"
	"os"
	"path/filepath"
)

// robustness is a suite of ours that is made of the parts of etcd's robustness tests. That of etcd itself reads etcd's raft log, and
// most of its faults need a build of etcd with failpoints.
const robustness = "robustness"

// robustnessVersion is that of the tests whose parts it is made of. They judge any version of a server by the same model.
const robustnessVersion = "3.7.1"

//go:embed testdata/robustness
var robustnessFiles embed.FS

// addRobustness puts the suite into the module, as its package.
func (m module) addRobustness() error {
	const from = "testdata/robustness"
	entries, err := robustnessFiles.ReadDir(from)
	if err != nil {
		return err
	}
	to := filepath.Join(m.dir, robustness)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		text, err := robustnessFiles.ReadFile(from + "/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
