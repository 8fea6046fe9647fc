package config

import (
	"fmt"
	"runtime"

	apiversion "go.etcd.io/etcd/api/v3/version"
)

// Set by the linker, see the Makefile.
var (
	// Version is Keelson's own version.
	Version = "0.1.0-dev"
	// GitSHA is the commit that this binary was built from.
	GitSHA = "unknown"
)

// APIVersion is the etcd release whose API we serve. Clients detect features by it.
var APIVersion = apiversion.Version

// versionText is what --version prints: etcd's four lines, which tools parse.
func versionText() string {
	return fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		APIVersion, GitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// OwnVersionText is what `keelson version` prints.
func OwnVersionText() string {
	return fmt.Sprintf("keelson Version: %s\nAPI version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		Version, APIVersion, GitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
