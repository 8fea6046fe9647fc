package env

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is the door to files. Its shape is Pebble's, so that Pebble, the raft log and the simulated disks share one.
type FS = vfs.FS

// SystemFS is the operating system's file system.
func SystemFS() FS { return vfs.Default }
