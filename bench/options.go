package bench

import (
	"fmt"
	"strings"
	"time"
)

// Op is the kind of load.
type Op string

// The loads. In a closed loop each of InFlight slots sends its next request when the last one was answered.
const (
	OpPut       Op = "put"        // closed loop: Put of ValueSize bytes
	OpGet       Op = "get"        // closed loop: Range of one key
	OpRange     Op = "range"      // closed loop: Range of all keys of the key space, at most Limit of them
	OpTxn       Op = "txn"        // closed loop: Txn with one compare, which holds, and one put
	OpGrant     Op = "grant"      // closed loop: LeaseGrant of LeaseFirst, LeaseFirst+1, ...
	OpKeepAlive Op = "keep-alive" // closed loop: LeaseKeepAlive on one stream for each slot, over Leases leases
	OpWatch     Op = "watch"      // Watchers on the key space's prefix, then puts in a closed loop until all events came
	OpWatchIdle Op = "watch-idle" // Streams watch streams on a prefix nobody writes to, held for Duration
)

// Ops lists every load, in the order of the help text.
var Ops = []Op{OpPut, OpGet, OpRange, OpTxn, OpGrant, OpKeepAlive, OpWatch, OpWatchIdle}

// Options says what to send where. The zero value of a field means what its comment says.
type Options struct {
	Op       Op
	Endpoint string `flag:"endpoint" default:"127.0.0.1:2379" help:"client address of the server, host:port; several, with commas between them, share the connections"`

	CACert string `flag:"cacert" default:"" help:"file with the authorities of the server's certificate; connections use TLS then"`
	User   string `flag:"user" default:"" help:"name:password of a user to log in as before the load"`

	InFlight int           `flag:"in-flight" default:"1" help:"requests under way at a time, over all connections"`
	Conns    int           `flag:"conns" default:"0" help:"connections; 0: one for every 250 in flight"`
	Total    int           `flag:"total" default:"0" help:"requests to send; 0: until the duration is over"`
	Duration time.Duration `flag:"duration" default:"0s" help:"how long to send; 0: until the total is sent, or 5s without a total"`
	Rate     int           `flag:"rate" default:"0" help:"requests started per second; 0: each as soon as a slot is free"`

	Prefix     string `flag:"prefix" default:"bench/" help:"what every key begins with"`
	KeySize    int    `flag:"key-size" default:"24" help:"length of a key in bytes, prefix included"`
	ValueSize  int    `flag:"value-size" default:"256" help:"length of a value in bytes"`
	KeySpace   int    `flag:"key-space" default:"100000" help:"number of different keys"`
	Sequential bool   `flag:"sequential" default:"false" help:"take the keys in turn, not at random"`
	Seed       uint64 `flag:"seed" default:"1" help:"seed of the choice of keys"`

	Serializable bool  `flag:"serializable" default:"false" help:"get, range: read what the member has, without asking a quorum"`
	Limit        int64 `flag:"limit" default:"0" help:"range: at most so many keys; 0: all"`
	KeysOnly     bool  `flag:"keys-only" default:"false" help:"range: without values"`
	CountOnly    bool  `flag:"count-only" default:"false" help:"range: only how many keys there are"`
	Revision     int64 `flag:"revision" default:"0" help:"range: as of this revision; 0: the newest"`
	Pages        bool  `flag:"pages" default:"false" help:"range: from a random key on, not from the first"`
	PrevKV       bool  `flag:"prev-kv" default:"false" help:"put, watch: with the previous pair"`

	Leases     int64 `flag:"leases" default:"1000" help:"keep-alive: number of leases, granted before"`
	LeaseFirst int64 `flag:"lease-first" default:"1000000" help:"grant, keep-alive: id of the first lease"`
	LeaseTTL   int64 `flag:"lease-ttl" default:"3600" help:"grant: TTL in seconds"`
	PutLease   int64 `flag:"put-lease" default:"0" help:"put: lease to attach the keys to; 0: none"`

	Watchers int `flag:"watchers" default:"1000" help:"watch: number of watchers"`
	Streams  int `flag:"streams" default:"0" help:"watch, watch-idle: number of watch streams; 0: one for every 100 watchers, or 10000 idle ones"`

	ServerPID int `flag:"server-pid" default:"0" help:"process id of the server, for its CPU time and memory; 0: not measured"`
}

const (
	inFlightPerConn    = 250
	watchersPerStream  = 100
	streamsIdleDefault = 10_000
	streamsPerConn     = 1000
	durationDefault    = 5 * time.Second
	inFlightMax        = 100_000
	streamsMax         = 1_000_000
	keyDigits          = 10 // room for the number in a key
)

// completed fills in what depends on other fields, and checks.
//
// Errors: a value out of range or missing.
func (o Options) completed() (Options, error) {
	if o.Endpoint == "" {
		return o, fmt.Errorf("bench: no endpoint")
	}
	if o.InFlight < 1 || o.InFlight > inFlightMax {
		return o, fmt.Errorf("bench: in-flight %d is not in 1..%d", o.InFlight, inFlightMax)
	}
	if o.Conns == 0 {
		o.Conns = (o.InFlight + inFlightPerConn - 1) / inFlightPerConn
	}
	o.Conns = min(o.Conns, o.InFlight)
	if o.Op == OpWatch || o.Op == OpWatchIdle {
		if o.Streams == 0 && o.Op == OpWatch {
			o.Streams = max(1, o.Watchers/watchersPerStream)
		}
		if o.Streams == 0 {
			o.Streams = streamsIdleDefault
		}
		if o.Streams < 1 || o.Streams > streamsMax || o.Watchers < 1 || o.Watchers > streamsMax {
			return o, fmt.Errorf("bench: %d watchers on %d streams", o.Watchers, o.Streams)
		}
		if o.Op == OpWatch && o.Total == 0 {
			return o, fmt.Errorf("bench: watch needs a total of puts")
		}
	}
	if o.KeySpace < 1 || o.ValueSize < 0 || o.Total < 0 || o.Rate < 0 || o.Conns < 1 || o.Leases < 1 {
		return o, fmt.Errorf("bench: key space, value size, total, rate, connections and leases must not be negative")
	}
	if least := len(o.Prefix) + keyDigits; o.KeySize < least {
		return o, fmt.Errorf("bench: key size %d is less than the prefix and %d digits", o.KeySize, keyDigits)
	}
	if o.Duration == 0 && o.Total == 0 {
		o.Duration = durationDefault
	}
	return o, nil
}

// endpoint is where a connection goes, counted from 0.
func (o *Options) endpoint(connection int) string {
	all := strings.Split(o.Endpoint, ",")
	return all[connection%len(all)]
}
