// Package clients runs the tests that Go libraries which use etcd publish, as they are, against a member of ours. It is a module of
// its own, so that nothing else depends on them.
package clients

import (
	_ "github.com/coreos/go-etcd/etcd"  // the first client, of the v2 API
	_ "github.com/go-kit/kit/sd/etcd"   // finds services by the v2 API, with etcd's client
	_ "github.com/go-kit/kit/sd/etcdv3" // the same by the v3 API; with gRPC 1.51 its client leaves :authority empty
)
