package suite

import (
	"testing"

	"github.com/dapr/components-contrib/state"
	"github.com/dapr/components-contrib/state/etcd"
	conformance "github.com/dapr/components-contrib/tests/conformance/state"
	"github.com/dapr/kit/logger"
)

// Of what Dapr's own configuration of its conformance tests has for etcd.
var operations = []string{"transaction", "etag", "first-write", "ttl", "actorStateStore", "keyslike"}

func TestV1(t *testing.T) { conform(t, etcd.NewEtcdStateStoreV1(logger.NewLogger("v1"))) }

func TestV2(t *testing.T) { conform(t, etcd.NewEtcdStateStoreV2(logger.NewLogger("v2"))) }

func conform(t *testing.T, s state.Store) {
	c, err := conformance.NewTestConfig("etcd", operations, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	conformance.ConformanceTests(t, map[string]string{"endpoints": "127.0.0.1:2379", "keyPrefixPath": t.Name(), "tlsEnable": "false"}, s, c)
}
