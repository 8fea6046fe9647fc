package main

// suite is what one program publishes.
type suite struct {
	name   string
	module string // path@version
	pkg    string // below the module
	tags   string
	match  string // regexps of tests
	skip   string
	env    []string
	starts bool // it starts etcd by itself, by that name
	users  bool // the member has users before it begins: root, with the password "insecure"

	// file of testdata is the test, if the package has none that runs: it calls the suite that the module publishes.
	file string
	// required: the package is built in a module that requires this one, which can't be built by itself.
	required bool
}

const (
	cilium  = "github.com/cilium/cilium@v1.20.2"
	coredns = "github.com/coredns/coredns@v1.15.0"
)

var suites = []suite{
	{name: "coredns-plugin", module: coredns, pkg: "plugin/etcd", tags: "etcd"},
	// The test that is left out asks a server on the Internet.
	{name: "coredns-whole", module: coredns, pkg: "test", tags: "etcd", match: "Etcd", skip: "^TestEtcdStubAndProxyLookup$"},
	// What is left out runs vtctldclient, which has to be built first.
	{name: "vitess", module: "vitess.io/vitess@v0.24.4", pkg: "go/vt/topo/etcd2topo", skip: "^TestEtcd2TopoGetTabletsPartialResults$", starts: true},
	{name: "vault", module: "github.com/hashicorp/vault@v1.13.0", pkg: "physical/etcd", env: []string{"ETCD_ADDR=http://127.0.0.1:2379"},
		users: true, required: true},
	{name: "cilium-kvstore", module: cilium, pkg: "pkg/kvstore", env: integration},
	{name: "cilium-store", module: cilium, pkg: "pkg/kvstore/store", env: integration},
	{name: "cilium-allocator", module: cilium, pkg: "pkg/kvstore/allocator", env: integration},
	{name: "cilium-doublewrite", module: cilium, pkg: "pkg/kvstore/allocator/doublewrite", env: integration},
	{name: "cilium-identities", module: cilium, pkg: "pkg/identity/cache", env: integration},
	// The scripts need a kernel that takes its programs.
	{name: "cilium-clusters", module: cilium, pkg: "pkg/clustermesh", skip: "^TestScript$", env: integration},
	{name: "cilium-remote-clusters", module: cilium, pkg: "pkg/clustermesh/common", env: integration},
	{name: "dapr", module: "github.com/dapr/components-contrib@v1.18.0", pkg: "state/etcd", file: "dapr_test.go", required: true},
	{name: "seaweedfs", module: "github.com/seaweedfs/seaweedfs@v0.0.0-20261109003541-7506e5f91cd6", pkg: "weed/filer/etcd", file: "seaweedfs_test.go",
		required: true},
	{name: "dskit", module: "github.com/grafana/dskit@v0.0.0-20260703122047-de1ec7541c44", pkg: "kv/etcd", file: "dskit_test.go", required: true},
	{name: "go-zero", module: "github.com/zeromicro/go-zero@v1.10.3", pkg: "core/discov", file: "gozero_test.go", required: true},
}

// integration makes Cilium's tests ask etcd.
var integration = []string{"INTEGRATION_TESTS=true"}
