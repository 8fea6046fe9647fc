package surface

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// post are requests with bodies, given as path and body in turn.
func post(pairs ...string) (list []request) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, request{path: "/v3/" + pairs[i], body: pairs[i+1], masked: volatile})
	}
	return list
}

// TestGatewayData walks through pairs, transactions, leases, watches, locks and elections.
func TestGatewayData(t *testing.T) {
	t.Parallel()
	var list []request
	add := func(requests ...request) { list = append(list, requests...) }
	stream := func(path, body string) request {
		return request{path: "/v3/" + path, body: body, silence: silence, masked: volatile}
	}
	add(post(
		"kv/put", `{"key":"YQ==","value":"MQ=="}`,
		"kv/put", `{"key":"YQ==","value":"Mg==","prev_kv":true}`,
		"kv/put", `{"key":"Yg==","value":"Mg==","prevKv":true}`,
		"kv/put", `{"key":"Yw==","lease":"5"}`,
		"kv/put", `{"key":"Yw==","ignore_value":true}`,
		"kv/put", `{"key":"YQ==","value":"eA==","ignore_value":true}`,
		"kv/put", `{"key":"YQ==","ignore_value":true,"ignore_lease":true,"prev_kv":true}`,
		"kv/put", `{"key":"YQ==","lease":"5","ignore_lease":true}`,
		"kv/range", `{"key":"AA==","range_end":"AA=="}`,
		"kv/range", `{"key":"YQ==","range_end":"eg==","limit":"1"}`,
		"kv/range", `{"key":"YQ==","range_end":"eg==","keys_only":true,"sort_order":"DESCEND"}`,
		"kv/range", `{"key":"YQ==","range_end":"eg==","count_only":true}`,
		"kv/range", `{"key":"YQ==","range_end":"eg==","sort_target":"VALUE","sort_order":1,"serializable":true}`,
		"kv/range", `{"key":"YQ==","revision":2}`,
		"kv/range", `{"key":"YQ==","revision":1000}`,
		"kv/range", `{"key":"YQ==","range_end":"eg==","min_mod_revision":"3","max_create_revision":3}`,
		"kv/deleterange", `{"key":"YQ==","prev_kv":true}`,
		"kv/deleterange", `{"key":"YQ==","prev_kv":true}`,
		"kv/txn", `{"compare":[{"key":"Yg==","target":"VERSION","version":1,"result":"EQUAL"}],"success":[{"request_range":{"key":"Yg=="}},{"request_put":{"key":"YQ==","value":"MQ==","prev_kv":true}},{"request_delete_range":{"key":"Yg==","prev_kv":true}},{"request_txn":{"compare":[{"key":"eg=="}],"failure":[{"requestPut":{"key":"eg=="}}]}}]}`,
		"kv/txn", `{"compare":[{"key":"Yg==","target":"VALUE","value":"eA=="}],"failure":[{"request_range":{"key":"AA==","range_end":"AA=="}}]}`,
		"kv/txn", `{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}`,
		"kv/txn", `{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}`,
		"kv/txn", `{"success":[null]}`,
		"kv/txn", `{"success":[{"request_put":null}]}`,
		"kv/compaction", `{"revision":"3"}`,
		"kv/compaction", `{"revision":"3"}`,
		"kv/compaction", `{"revision":"300"}`,
		"kv/compaction", `{"revision":5,"physical":true}`,
		"kv/range", `{"key":"YQ==","revision":2}`,
		"lease/grant", `{"ID":7,"TTL":600}`,
		"lease/grant", `{"ID":7,"TTL":600}`,
		"lease/grant", `{"ID":"-8","TTL":"1"}`,
		"lease/grant", `{"ID":9,"TTL":9000000001}`,
		"kv/put", `{"key":"bA==","lease":7}`,
		"lease/timetolive", `{"ID":7,"keys":true}`,
		"kv/lease/timetolive", `{"ID":99}`,
		"lease/leases", `{}`,
		"kv/lease/leases", ``,
		"lease/keepalive", `{"ID":7}`,
		"lease/keepalive", `{"ID":7}{"ID":"8"}`+"\n"+`{"ID":"-8"}`,
		"lease/keepalive", `{"ID":7}{"ID":"x"}`,
		"lease/keepalive", ``,
	)...)
	for _, body := range []string{
		`{"create_request":{"key":"YQ==","range_end":"AA==","start_revision":"5"}}`,
		`{"create_request":{"key":"YQ==","range_end":"AA==","start_revision":"6","prev_kv":true,"fragment":true,"progress_notify":true}}`,
		`{"create_request":{"key":"YQ==","range_end":"AA==","start_revision":"6","filters":["NOPUT"]}}`,
		`{"create_request":{"key":"YQ==","range_end":"AA==","start_revision":"6","filters":["NODELETE",0,77]}}`,
		`{"create_request":{"key":"YQ==","start_revision":"2"}}`,
		`{"create_request":{"key":"YQ==","start_revision":"-2"}}`,
		`{"create_request":{"key":"Yg==","range_end":"YQ=="}}`,
		`{"create_request":{"key":"Yg==","watch_id":"7"}}{"create_request":{"key":"Yg==","watch_id":"7"}}{"create_request":{}}`,
		`{"create_request":{"key":"Yg=="}}` + "\n" + `{"cancel_request":{"watch_id":0}}` + "\n\n",
		`{"cancel_request":{"watch_id":5}}`,
		`{"progress_request":{}}`,
		`{"create_request":{"key":"Yg=="}}{`,
		`{"create_request":{"key":"Yg=="}}]`,
		`{"create_request":{"key":"Yg=="},"cancel_request":{"watch_id":0}}`,
		`{"create_request":null}`,
	} {
		add(stream("watch", body))
	}
	add(post("lease/revoke", `{"ID":7}`, "lease/revoke", `{"ID":7}`, "kv/lease/revoke", `{"ID":"-8"}`, "kv/range", `{"key":"bA=="}`,
		"lease/grant", `{"ID":11,"TTL":600}`, "lease/grant", `{"ID":12,"TTL":600}`,
		"lock/lock", `{"name":"bA==","lease":11}`,
		"lock/lock", `{"name":"bA==","lease":11}`,
		"lock/lock", `{"name":"bA==","lease":99}`)...)
	waits := post("lock/lock", `{"name":"bA==","lease":12}`)[0]
	waits.header = []string{"Grpc-Timeout", "300m"}
	add(waits)
	add(stream("watch", "")) // etcd deletes the key of who has given up a little later
	add(post("kv/range", `{"key":"AA==","range_end":"AA=="}`,
		"lock/unlock", `{"key":"bC9i"}`,
		"lock/unlock", `{"key":"bC9i"}`,
		"lock/unlock", `{}`,
		"lock/lock", `{"name":"bA==","lease":12}`,
		"election/leader", `{"name":"ZQ=="}`,
		"election/campaign", `{"name":"ZQ==","lease":11,"value":"MQ=="}`,
		"election/campaign", `{"name":"ZQ==","lease":11,"value":"Mg=="}`,
		"election/campaign", `{"name":"ZQ==","lease":99,"value":"Mg=="}`,
		"election/leader", `{"name":"ZQ=="}`,
		"election/proclaim", `{"value":"Mw=="}`,
		"election/proclaim", `{"leader":{"name":"ZQ==","key":"ZS9i","rev":"1","lease":11},"value":"Mw=="}`,
		"election/proclaim", `{"leader":{"name":"ZQ==","key":"eA==","rev":"0","lease":11},"value":"Mw=="}`)...)
	add(stream("election/observe", `{"name":"ZQ=="}`), stream("election/observe", `{"name":"bm9uZQ=="}`))
	add(post("election/resign", `{}`,
		"election/resign", `{"leader":{"name":"ZQ==","key":"ZS9i","rev":"1","lease":11}}`,
		"election/resign", `{"leader":{}}`,
		"maintenance/alarm", `{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}`,
		"maintenance/alarm", `{}`,
		"kv/put", `{"key":"YQ=="}`,
		"kv/deleterange", `{"key":"YQ=="}`,
		"maintenance/alarm", `{"action":2,"memberID":1,"alarm":1}`,
		"maintenance/alarm", `{"action":2,"memberID":1,"alarm":1}`,
		"maintenance/alarm", `{"action":"ACTIVATE","alarm":"CORRUPT"}`,
		"kv/put", `{"key":"YQ=="}`,
		"kv/range", `{"key":"YQ=="}`,
		"maintenance/alarm", `{"action":2,"alarm":"CORRUPT"}`,
		"maintenance/downgrade", `{"action":"VALIDATE","version":"3.6"}`,
		"maintenance/downgrade", `{"action":"VALIDATE","version":"3.5"}`,
		"maintenance/downgrade", `{"action":"VALIDATE","version":"3.6.0.1"}`,
		"maintenance/downgrade", `{"action":"CANCEL"}`,
		"maintenance/downgrade", `{"action":"ENABLE","version":"3.6.0"}`,
		"maintenance/downgrade", `{"action":"ENABLE","version":"3.6.0"}`,
		"maintenance/downgrade", `{"action":"CANCEL"}`,
		"maintenance/transfer-leadership", `{"targetID":"5"}`,
		"maintenance/defragment", ``,
		"maintenance/hashkv", `{"revision":"1000"}`,
		"maintenance/hashkv", `{"revision":1}`,
		"maintenance/status", ``,
		"cluster/member/list", `{"linearizable":true}`,
		"cluster/member/add", `{"peerURLs":["http://127.0.0.1"]}`,
		"cluster/member/add", `{"peerURLs":["http://127.0.0.1:1/x"]}`,
		"cluster/member/promote", `{"ID":"5"}`,
		"cluster/member/remove", `{"ID":"5"}`,
		"cluster/member/update", `{"ID":"5","peerURLs":["http://127.0.0.1:1"]}`,
		"nosuch", `{}`, "", `{}`, "kv", `{}`, "kv/range/YQ==", `{}`, "kv/rangestream", `{"key":"YQ=="}`)...)
	compare(t, nil, list, false)
}

// TestGatewayUsers walks through users and roles, under nobody's name, with bad tokens, as a user and as root.
func TestGatewayUsers(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"simple": nil, "jwt": {"--auth-token=jwt,sign-method=HS256,priv-key=" + key + ",ttl=1h"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := post(
				"auth/status", `{}`,
				"auth/authenticate", `{"name":"root","password":"x"}`,
				"auth/enable", `{}`,
				"auth/disable", `{}`,
				"auth/user/add", `{"name":"root","password":"root"}`,
				"auth/user/add", `{"name":"root","password":"root"}`,
				"auth/enable", `{}`,
				"auth/user/grant", `{"user":"root","role":"root"}`,
				"auth/user/add", `{"name":"ann","password":"ann"}`,
				"auth/user/add", `{"name":"cert","options":{"no_password":true}}`,
				"auth/user/add", `{"name":"long","password":"`+fmt.Sprintf("%073d", 0)+`"}`,
				"auth/user/changepw", `{"name":"ann","hashedPassword":"x"}`,
				"auth/user/changepw", `{"name":"cert","password":"x"}`,
				"auth/role/add", `{"name":"r"}`,
				"auth/role/add", `{"name":"r"}`,
				"auth/role/grant", `{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yw=="}}`,
				"auth/role/grant", `{"name":"r","perm":{"permType":1,"key":"Yg==","range_end":"AA=="}}`,
				"auth/role/grant", `{"name":"r","perm":{"permType":77,"key":"eA=="}}`,
				"auth/role/grant", `{"name":"r","perm":{"permType":"READ","key":"Yg==","range_end":"YQ=="}}`,
				"auth/role/grant", `{"name":"r"}`,
				"auth/role/grant", `{"name":"none","perm":{"key":"YQ=="}}`,
				"auth/role/get", `{"role":"r"}`,
				"auth/role/get", `{"role":"root"}`,
				"auth/role/revoke", `{"role":"r","key":"eA=="}`,
				"auth/role/revoke", `{"role":"r","key":"eA=="}`,
				"auth/user/grant", `{"user":"ann","role":"r"}`,
				"auth/user/grant", `{"user":"ann","role":"none"}`,
				"auth/user/grant", `{"user":"none","role":"r"}`,
				"auth/user/get", `{"name":"ann"}`,
				"auth/user/list", `{}`,
				"auth/role/list", `{}`,
				"kv/put", `{"key":"YQ==","value":"MQ=="}`,
				"lease/grant", `{"ID":5,"TTL":600}`,
				"kv/put", `{"key":"eg==","lease":5}`,
				"auth/enable", `{}`,
				"auth/enable", `{}`,
				"auth/status", `{}`,
				"auth/authenticate", `{"name":"root","password":"x"}`,
				"auth/authenticate", `{"name":"root"}`,
				"auth/authenticate", `{"name":"cert","password":"x"}`,
				"auth/authenticate", `{"name":"none","password":"x"}`,
			)
			for _, name := range []string{"root", "ann"} {
				login := post("auth/authenticate", fmt.Sprintf(`{"name":%q,"password":%q}`, name, name))[0]
				login.keep, login.keeps = name, `"token": ?"([^"]*)"`
				login.masked = []string{login.keeps}
				list = append(list, login)
			}
			for _, header := range [][]string{nil, {"Authorization", "bad"}, {"Authorization", ""}, {"Token", "${root}"}, {"Authorization", "${ann}"},
				{"Authorization", "Bearer ${ann}"}, {"Authorization", "bearer ${ann}"}, {"Authorization", "Bearer  ${ann}"}, {"Authorization", "Basic cm9vdDpyb290"},
				{"Grpc-Metadata-Token", "${ann}"}, {"Grpc-Metadata-Authorization", "${ann}"}, {"Authorization", "${ann}", "Authorization", "bad"},
				{"Cookie", "token=${ann}"}, {"Authorization", "${root}"}} {
				for _, r := range post(
					"kv/range", `{"key":"YQ=="}`,
					"kv/range", `{"key":"eg=="}`,
					"kv/put", `{"key":"YQ=="}`,
					"kv/put", `{"key":"eg=="}`,
					"kv/deleterange", `{"key":"eA==","range_end":"eg=="}`,
					"kv/txn", `{"compare":[{"key":"eg=="}]}`,
					"lease/timetolive", `{"ID":5,"keys":true}`,
					"lease/leases", ``,
					"lease/keepalive", `{"ID":5}`,
					"maintenance/status", ``,
					"maintenance/hashkv", ``,
					"maintenance/snapshot", ``,
					"maintenance/alarm", ``,
					"cluster/member/list", ``,
					"cluster/member/promote", `{"ID":1}`,
					"auth/user/get", `{"name":"ann"}`,
					"auth/user/get", `{"name":"root"}`,
					"auth/user/list", ``,
					"auth/user/changepw", `{"name":"none","hashedPassword":"x"}`,
					"auth/user/delete", `{"name":"root"}`,
					"auth/role/get", `{"role":"r"}`,
					"auth/role/delete", `{"role":"root"}`,
					"auth/status", ``,
					"lock/lock", `{"name":"eg==","lease":"5"}`,
					"lock/unlock", `{"key":"eg=="}`,
					"election/leader", `{"name":"YQ=="}`,
				) {
					r.header = header
					if r.path == "/v3/maintenance/snapshot" {
						r.masked = append(more[r.path], r.masked...)
					}
					list = append(list, r)
				}
				list = append(list, request{path: "/v3/watch", body: `{"create_request":{"key":"YQ=="}}{"create_request":{"key":"eg=="}}`,
					header: header, silence: silence, masked: volatile})
			}
			disable := post("auth/disable", `{}`, "auth/disable", `{}`)
			disable[0].header = []string{"Authorization", "${root}"}
			list = append(list, disable...)
			compare(t, args, list, false)
		})
	}
}

// pages are requests to everything beside the gateway, with the queries that it has.
func pages(traces bool) (list []request) {
	masked := []string{`(?s)^(# HELP.*)$`, `(?s)^(\{\n"cmdline".*)$`, `(?s)^(/.*)--name=m1`, `--initial-cluster=m1=[^\x00]*(.*)$`}
	for _, path := range []string{
		"/", "/v3", "/v3/", "/v3beta", "/v3beta/", "/v3beta/kv/range", "/v3//kv/range", "/v3/../health", "//health", "/health/", "/nosuch", "/v2", "/v2/keys", "/new", "/config/local/log",
		"/version", "/version/", "/version?x=1", "/metrics", "/metrics/", "/members", "/raft", "/leases", "/downgrade/enabled",
		"/health", "/health?exclude=NOSPACE", "/health?exclude=NOSPACE&exclude=CORRUPT", "/health?exclude=nosuch", "/health?exclude=", "/health?exclude",
		"/health?serializable=true", "/health?serializable=false", "/health?serializable=x", "/health?serializable", "/health?serializable=1", "/health?%zz",
		"/livez", "/livez/", "/livez?verbose", "/livez?verbose=false", "/livez?verbose=true&exclude=serializable_read", "/livez?exclude=serializable_read", "/livez?exclude=nosuch",
		"/livez?exclude=", "/livez/serializable_read", "/livez/serializable_read?verbose", "/livez/serializable_read?exclude=serializable_read", "/livez/linearizable_read",
		"/livez/nosuch", "/livez/serializable_read/", "/livez?serializable=true",
		"/readyz", "/readyz/", "/readyz?exclude=data_corruption&exclude=serializable_read&exclude=linearizable_read&exclude=non_learner&verbose",
		"/readyz?exclude=data_corruption&exclude=serializable_read&exclude=linearizable_read&exclude=non_learner",
		"/readyz?exclude=data_corruption,serializable_read&exclude=linearizable_read&exclude=non_learner",
		"/readyz?exclude=nosuch", "/readyz?exclude=data_corruption&exclude=serializable_read&exclude=linearizable_read&verbose",
		"/readyz/data_corruption", "/readyz/serializable_read?verbose", "/readyz/linearizable_read?verbose", "/readyz/non_learner?verbose=1", "/readyz/learner",
		"/debug/vars", "/debug/vars/", "/debug", "/debug/", "/debug/pprof", "/debug/pprof/cmdline", "/debug/pprof/nosuch", "/debug/pprof/symbol", "/debug/requests", "/debug/events", "/debug/requests?fam=x",
		"/favicon.ico", "/%2e%2e/health", "/health%2f", "/HEALTH",
	} {
		if traces && (strings.HasPrefix(path, "/debug/requests") || strings.HasPrefix(path, "/debug/events")) {
			continue // of the library that etcd uses for gRPC
		}
		for _, verb := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
			list = append(list, request{method: verb, path: path, masked: masked, unordered: strings.HasPrefix(path, "/readyz")})
		}
	}
	return list
}

// TestPages compares every page beside the gateway, with alarms and without.
func TestPages(t *testing.T) {
	for name, args := range map[string][]string{"as it is": nil, "profiles": {"--enable-pprof"}, "debug": {"--log-level=debug"}, "no gateway": {"--enable-grpc-gateway=false"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := pages(name == "debug")
			if name == "as it is" {
				for _, alarm := range []string{"NOSPACE", "CORRUPT"} {
					list = append(list, post("maintenance/alarm", `{"action":"ACTIVATE","memberID":"7","alarm":"`+alarm+`"}`)...)
					list = append(list, pages(false)...)
					list = append(list, post("maintenance/alarm", `{"action":"DEACTIVATE","memberID":"7","alarm":"`+alarm+`"}`)...)
				}
			}
			compare(t, args, list, false)
		})
	}
}

// TestOrigins compares what browsers are told.
func TestOrigins(t *testing.T) {
	for name, args := range map[string][]string{"all": nil, "two": {"--cors=http://a.example:80,http://b.example:8080"}, "one": {"--cors=https://b.example:8080"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var list []request
			for _, origin := range []string{"", "http://a.example", "http://a.example/", "HTTP://A.example", "https://a.example", "http://a.example:80", "http://b.example:8080", "https://b.example:8080", "http://b.example", "null", "*"} {
				for _, verb := range []string{"GET", "POST", "OPTIONS", "DELETE"} {
					for _, path := range []string{"/v3/kv/range", "/health", "/version", "/nosuch"} {
						r := request{method: verb, path: path, body: `{"key":"YQ=="}`, masked: volatile}
						if origin != "" {
							r.header = []string{"Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-y"}
						}
						list = append(list, r)
					}
				}
			}
			compare(t, args, list, false)
		})
	}
}

// TestHosts compares who is refused for the host that he asks for.
func TestHosts(t *testing.T) {
	for name, args := range map[string][]string{"all": nil, "none": {"--host-whitelist="}, "two": {"--host-whitelist=a.example,::1"}, "loopback": {"--host-whitelist=localhost,127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var list []request
			for _, host := range []string{"", "a.example", "a.example:2379", "A.example", "a.example.", "b.example", "[::1]:2379", "::1", "localhost", "127.0.0.1:1", "127.0.0.1", "a.example:x", "a.example:1:2", "a&b'c"} {
				for _, path := range []string{"/v3/kv/range", "/health", "/version", "/nosuch"} {
					r := request{path: path, body: `{"key":"YQ=="}`, masked: volatile}
					if host != "" {
						r.header = []string{"Host", host}
					}
					list = append(list, r)
				}
			}
			compare(t, args, list, false)
		})
	}
}
