package config

import (
	"time"

	"keelson/api/gateway"
	"keelson/api/ops"
	"keelson/api/v2"
	"keelson/internal/logging"
)

// Config is every setting of one member. It is made by Load and read-only from then on.
//
// Zero values that stand for "the default" have been replaced: a reader never needs to know that 0 means 2 GiB.
type Config struct {
	Member     Member
	Cluster    Cluster
	Discovery  Discovery
	Compaction Compaction
	Limits     Limits
	RPC        RPC
	Watch      Watch
	Storage    Storage
	ClientTLS  ClientTLS
	PeerTLS    PeerTLS
	TLS        TLS
	Auth       Auth
	HTTP       gateway.Options
	V2         v2.Settings
	Ops        ops.Options
	Logging    logging.Options
	Warnings   Warnings
	Tracing    Tracing
	Checks     Checks
	Unsafe     Unsafe

	// File is the configuration file that the values came from; empty: from flags and environment.
	File string
}

// Member is what one member is called, where its files are and where it listens.
type Member struct {
	Name    string `flag:"name" default:"default" help:"Human-readable name of this member."`
	DataDir string `flag:"data-dir" default:"" help:"Directory of everything this member stores. Empty: ${name}.etcd in the working directory."`
	WALDir  string `flag:"wal-dir" default:"" help:"Directory of the raft log, if it has a disk of its own. Empty: inside the data directory."`

	ListenPeerURLs       URLs `flag:"listen-peer-urls" default:"http://localhost:2380" help:"Where other members reach this one."`
	ListenClientURLs     URLs `flag:"listen-client-urls" default:"http://localhost:2379" help:"Where clients reach this member: gRPC and HTTP, or gRPC alone if listen-client-http-urls is set."`
	ListenClientHTTPURLs URLs `flag:"listen-client-http-urls" default:"" help:"Where HTTP clients reach this member, if not at listen-client-urls."`
	ListenMetricsURLs    URLs `flag:"listen-metrics-urls" default:"" help:"Further listeners that serve only metrics and health."`

	SocketReusePort    bool `flag:"socket-reuse-port" default:"false" key:"socket-options.reuse-port" help:"Set SO_REUSEPORT on listeners."`
	SocketReuseAddress bool `flag:"socket-reuse-address" default:"false" key:"socket-options.reuse-address" help:"Set SO_REUSEADDR on listeners."`

	HeartbeatMillis uint `flag:"heartbeat-interval" default:"100" unit:"ms" help:"Time between heartbeats of a leader."`
	ElectionMillis  uint `flag:"election-timeout" default:"1000" unit:"ms" help:"Silence of a leader after which an election starts; at least five heartbeats."`
	TickAdvance     bool `flag:"initial-election-tick-advance" default:"true" help:"Shorten the first election timeout after a start."`
	PreVote         bool `flag:"pre-vote" default:"true" help:"Ask for votes before raising the term."`

	RaftReadTimeout  time.Duration `flag:"raft-read-timeout" default:"5s" key:"-" help:"Time after which a silent peer connection is given up; at least 5s."`
	RaftWriteTimeout time.Duration `flag:"raft-write-timeout" default:"5s" key:"-" help:"Time after which a blocked peer connection is given up; at least 5s."`

	Gates Gates `flag:"feature-gates" default:"" help:"Features to switch, as Name=true,Name=false."`
}

// Heartbeat is the time between two heartbeats.
func (m Member) Heartbeat() time.Duration { return time.Duration(m.HeartbeatMillis) * time.Millisecond }

// Election is the election timeout.
func (m Member) Election() time.Duration { return time.Duration(m.ElectionMillis) * time.Millisecond }

// RequestTimeout bounds each wait for consensus: 5 seconds and two election timeouts.
func (m Member) RequestTimeout() time.Duration { return 5*time.Second + 2*m.Election() }

// Cluster is how the member's cluster comes into being. Only the first start of a data directory reads it, apart from
// the advertised client addresses.
type Cluster struct {
	AdvertisePeerURLs   URLs   `flag:"initial-advertise-peer-urls" default:"http://localhost:2380" help:"Where this member tells other members to reach it."`
	AdvertiseClientURLs URLs   `flag:"advertise-client-urls" default:"http://localhost:2379" help:"Where this member tells clients to reach it."`
	Initial             string `flag:"initial-cluster" default:"" help:"First members of the cluster, as name=url,name=url. Empty: this member alone."`
	InitialState        string `flag:"initial-cluster-state" default:"new" one:"new,existing" help:"new or existing."`
	InitialToken        string `flag:"initial-cluster-token" default:"etcd-cluster" help:"Token that sets the ids of this cluster apart from those of another with the same addresses."`
	StrictReconfigCheck bool   `flag:"strict-reconfig-check" default:"true" help:"Refuse membership changes that would lose quorum."`
	MaxLearners         int    `flag:"max-learners" default:"1" help:"Most learners at a time."`
	V2Deprecation       string `flag:"v2-deprecation" default:"write-only" one:"write-only,write-only-skip-check,write-only-drop-data,gone" help:"Deprecated, without effect."`
}

// Discovery is how members find each other through another cluster or through DNS.
type Discovery struct {
	URL                string        `flag:"discovery" default:"" help:"URL of the v2 API under which the first members of this cluster meet."`
	Token              string        `flag:"discovery-token" default:"" key:"discovery-config.token" help:"Token of the cluster at the discovery service."`
	Endpoints          []string      `flag:"discovery-endpoints" default:"" key:"discovery-config.client.endpoints" help:"Addresses of the discovery service."`
	DialTimeout        time.Duration `flag:"discovery-dial-timeout" default:"2s" key:"discovery-config.client.dial-timeout" help:"Dial timeout towards the discovery service."`
	RequestTimeout     time.Duration `flag:"discovery-request-timeout" default:"5s" key:"discovery-config.client.request-timeout" help:"Request timeout towards the discovery service."`
	KeepaliveTime      time.Duration `flag:"discovery-keepalive-time" default:"2s" key:"discovery-config.client.keepalive-time" help:"Keepalive interval towards the discovery service."`
	KeepaliveTimeout   time.Duration `flag:"discovery-keepalive-timeout" default:"6s" key:"discovery-config.client.keepalive-timeout" help:"Keepalive timeout towards the discovery service."`
	InsecureTransport  bool          `flag:"discovery-insecure-transport" default:"true" key:"discovery-config.client.secure.insecure-transport" help:"Talk to the discovery service without TLS."`
	InsecureSkipVerify bool          `flag:"discovery-insecure-skip-tls-verify" default:"false" key:"discovery-config.client.secure.insecure-skip-tls-verify" help:"Do not verify the discovery service's certificate."`
	CertFile           string        `flag:"discovery-cert" default:"" key:"discovery-config.client.secure.cert" help:"Client certificate for the discovery service."`
	KeyFile            string        `flag:"discovery-key" default:"" key:"discovery-config.client.secure.key" help:"Client key for the discovery service."`
	CAFile             string        `flag:"discovery-cacert" default:"" key:"discovery-config.client.secure.cacert" help:"CA of the discovery service."`
	User               string        `flag:"discovery-user" default:"" key:"discovery-config.client.auth.username" help:"User at the discovery service."`
	Password           string        `flag:"discovery-password" default:"" key:"discovery-config.client.auth.password" help:"Password at the discovery service."`
	SRV                string        `flag:"discovery-srv" default:"" help:"Domain whose SRV records name the members."`
	SRVName            string        `flag:"discovery-srv-name" default:"" help:"Suffix of the SRV service name."`
	Fallback           string        `flag:"discovery-fallback" default:"exit" key:"-" one:"exit,proxy" help:"What to do when discovery fails; exit is the only choice."`
}

// Compaction is which history is thrown away, and how fast.
type Compaction struct {
	AutoMode      string        `flag:"auto-compaction-mode" default:"periodic" help:"Meaning of auto-compaction-retention: periodic or revision."`
	AutoRetention string        `flag:"auto-compaction-retention" default:"0" help:"History kept: hours or a duration (periodic), or a number of revisions. 0: everything."`
	BatchLimit    int           `flag:"compaction-batch-limit" default:"0" help:"Records removed at a time. 0: 1000."`
	SleepInterval time.Duration `flag:"compaction-sleep-interval" default:"0s" help:"Pause between two removals. 0: 10ms, or more while there are many writes and no other compaction waits."`
}

// Limits bound what clients may ask for.
type Limits struct {
	QuotaBytes           int64         `flag:"quota-backend-bytes" default:"0" unit:"bytes" help:"Store size at which writes are refused. 0 or not given: what the disk has room for; below 0: no limit."`
	QuotaEnforced        bool          // a quota was asked for: without one, only the default is reported
	MaxTxnOps            uint          `flag:"max-txn-ops" default:"128" help:"Most operations in a transaction."`
	MaxRequestBytes      uint          `flag:"max-request-bytes" default:"1572864" unit:"bytes" help:"Largest write request."`
	MaxConcurrentStreams uint32        `flag:"max-concurrent-streams" default:"4294967295" help:"Most concurrent streams of one HTTP/2 connection."`
	KeepaliveMinTime     time.Duration `flag:"grpc-keepalive-min-time" default:"5s" help:"Shortest time between two pings of a client."`
	KeepaliveInterval    time.Duration `flag:"grpc-keepalive-interval" default:"2h0m0s" help:"Time between two pings of the server on a silent connection. 0: none."`
	KeepaliveTimeout     time.Duration `flag:"grpc-keepalive-timeout" default:"20s" help:"Time a client has to answer the server's ping."`
}

// RPC is how calls are served.
type RPC struct {
	Server string `flag:"rpc-server" default:"keelson" one:"keelson,grpc-go" help:"gRPC server: keelson (our own) or grpc-go."`
}

// Choices of RPC.Server.
const (
	RPCKeelson = "keelson"
	RPCGRPCGo  = "grpc-go"
)

// Watch is how watchers are served.
type Watch struct {
	ProgressInterval time.Duration `flag:"watch-progress-notify-interval" default:"0s" help:"Time between progress notifications. 0: 10m."`
}

// Storage holds settings about files. Those that describe the files of another engine are accepted without effect.
type Storage struct {
	SnapshotCount     uint64        `flag:"snapshot-count" default:"10000" help:"Applied entries after which the state is put on disk, if it has not got there by its size before. 0: 10000."`
	CatchUpEntries    uint64        `flag:"snapshot-catchup-entries" default:"5000" help:"Entries of the log kept for slow followers."`
	MaxSnapshots      uint          `flag:"max-snapshots" default:"5" help:"Deprecated, without effect."`
	MaxWALs           uint          `flag:"max-wals" default:"5" help:"Without effect: the log is truncated by what it still has to hold."`
	MemoryLock        bool          `flag:"memory-mlock" default:"false" help:"Without effect: the store is not mapped into memory."`
	FreelistType      string        `flag:"backend-bbolt-freelist-type" default:"" help:"Without effect."`
	BatchInterval     time.Duration `flag:"backend-batch-interval" default:"0s" help:"Without effect."`
	BatchLimit        int           `flag:"backend-batch-limit" default:"0" help:"Without effect."`
	DefragThresholdMB uint          `flag:"bootstrap-defrag-threshold-megabytes" default:"0" help:"Without effect: there is nothing to defragment."`
}

// ClientTLS is the identity shown to clients, and what is asked of theirs.
type ClientTLS struct {
	CertFile         string   `flag:"cert-file" default:"" key:"client-transport-security.cert-file" help:"Certificate shown to clients."`
	KeyFile          string   `flag:"key-file" default:"" key:"client-transport-security.key-file" help:"Key of cert-file."`
	ClientCertFile   string   `flag:"client-cert-file" default:"" key:"client-transport-security.client-cert-file" help:"Certificate of this member as a client: when it joins a cluster, and has itself added."`
	ClientKeyFile    string   `flag:"client-key-file" default:"" key:"client-transport-security.client-key-file" help:"Key of client-cert-file."`
	ClientCertAuth   bool     `flag:"client-cert-auth" default:"false" key:"client-transport-security.client-cert-auth" help:"Demand certificates from clients."`
	TrustedCAFile    string   `flag:"trusted-ca-file" default:"" key:"client-transport-security.trusted-ca-file" help:"CA of clients' certificates; demands them."`
	CRLFile          string   `flag:"client-crl-file" default:"" key:"-" help:"List of revoked client certificates."`
	AllowedCNs       []string `flag:"-" default:"" key:"client-transport-security.allowed-cn" help:"Common names that client certificates may have."`
	AllowedHostnames []string `flag:"client-cert-allowed-hostname" default:"" key:"client-transport-security.allowed-hostname" help:"Host names that client certificates must be valid for."`
	Auto             bool     `flag:"auto-tls" default:"false" key:"client-transport-security.auto-tls" help:"Make a certificate for clients at the first start."`
}

// PeerTLS is the identity shown to other members, and what is asked of theirs.
type PeerTLS struct {
	CertFile            string   `flag:"peer-cert-file" default:"" key:"peer-transport-security.cert-file" help:"Certificate shown to other members."`
	KeyFile             string   `flag:"peer-key-file" default:"" key:"peer-transport-security.key-file" help:"Key of peer-cert-file."`
	ClientCertFile      string   `flag:"peer-client-cert-file" default:"" key:"peer-transport-security.client-cert-file" help:"Certificate used when dialing other members."`
	ClientKeyFile       string   `flag:"peer-client-key-file" default:"" key:"peer-transport-security.client-key-file" help:"Key of peer-client-cert-file."`
	ClientCertAuth      bool     `flag:"peer-client-cert-auth" default:"false" key:"peer-transport-security.client-cert-auth" help:"Demand certificates from other members."`
	TrustedCAFile       string   `flag:"peer-trusted-ca-file" default:"" key:"peer-transport-security.trusted-ca-file" help:"CA of other members' certificates; demands them."`
	CRLFile             string   `flag:"peer-crl-file" default:"" key:"-" help:"List of revoked member certificates."`
	AllowedCNs          []string `flag:"peer-cert-allowed-cn" default:"" key:"peer-transport-security.allowed-cn" help:"Common names that member certificates may have."`
	AllowedHostnames    []string `flag:"peer-cert-allowed-hostname" default:"" key:"peer-transport-security.allowed-hostname" help:"Host names that member certificates must be valid for."`
	Auto                bool     `flag:"peer-auto-tls" default:"false" key:"peer-transport-security.auto-tls" help:"Make a certificate for other members at the first start."`
	SkipSANVerification bool     `flag:"peer-skip-client-san-verification" default:"false" key:"peer-transport-security.skip-client-san-verification" help:"Do not compare a member's address with its certificate."`
}

// TLS is what both planes share.
type TLS struct {
	SelfSignedYears uint     `flag:"self-signed-cert-validity" default:"1" unit:"years" help:"Life of certificates made by auto-tls."`
	CipherSuites    []string `flag:"cipher-suites" default:"" help:"TLS cipher suites to allow. Empty: the runtime's choice."`
	VersionMin      string   `flag:"tls-min-version" default:"TLS1.2" help:"Lowest TLS version: TLS1.2 or TLS1.3."`
	VersionMax      string   `flag:"tls-max-version" default:"" help:"Highest TLS version: TLS1.2 or TLS1.3. Empty: the newest."`
}

// Auth is how users prove who they are.
type Auth struct {
	Token           string `flag:"auth-token" default:"simple" help:"Kind of token: simple, or jwt with its options."`
	TokenTTLSeconds uint   `flag:"auth-token-ttl" default:"300" unit:"s" help:"Life of a simple token."`
	BcryptCost      uint   `flag:"bcrypt-cost" default:"10" help:"Cost of hashing passwords."`
}

// Warnings are the durations above which something is logged as slow.
type Warnings struct {
	Apply time.Duration `flag:"warning-apply-duration" default:"100ms" help:"Applying one request: longer is logged."`
	Unary time.Duration `flag:"warning-unary-request-duration" default:"300ms" help:"Answering one unary request: longer is logged."`
}

// Tracing is where spans go.
type Tracing struct {
	Enabled     bool   `flag:"enable-distributed-tracing" default:"false" help:"Send traces to an OpenTelemetry collector."`
	Address     string `flag:"distributed-tracing-address" default:"localhost:4317" help:"Address of the collector."`
	ServiceName string `flag:"distributed-tracing-service-name" default:"etcd" help:"Service name in traces."`
	InstanceID  string `flag:"distributed-tracing-instance-id" default:"" help:"Instance id in traces."`
	PerMillion  int    `flag:"distributed-tracing-sampling-rate" default:"0" help:"Requests traced per million."`
}

// Checks are what members verify about each other.
type Checks struct {
	CorruptInterval     time.Duration `flag:"corrupt-check-time" default:"0s" help:"Time between comparisons of the members' hashes. 0: none."`
	CompactHashInterval time.Duration `flag:"compact-hash-check-time" default:"1m0s" help:"Time between comparisons of compaction hashes, with the feature gate CompactHashCheck."`
	DowngradeInterval   time.Duration `flag:"downgrade-check-time" default:"5s" help:"Time between looks at a running downgrade."`
}

// Unsafe are switches that can lose data.
type Unsafe struct {
	NoFsync         bool `flag:"unsafe-no-fsync" default:"false" help:"Without effect: what is acknowledged is on disk."`
	ForceNewCluster bool `flag:"force-new-cluster" default:"false" help:"Drop every other member and go on as a cluster of one."`
}
