package suite

import (
	"testing"

	"github.com/seaweedfs/seaweedfs/weed/filer/etcd"
	"github.com/seaweedfs/seaweedfs/weed/filer/store_test"
	"github.com/seaweedfs/seaweedfs/weed/util"
)

func TestStore(t *testing.T) {
	store := &etcd.EtcdStore{}
	if err := store.Initialize(util.GetViper(), "etcd."); err != nil {
		t.Fatal(err)
	}
	store_test.TestFilerStore(t, store)
}
