package main

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// curl sends one request as people do, and returns body and status code.
func curl(t *testing.T, p *testkit.Process, path string, args ...string) (body, code string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = append([]string{"-sS", "-w", "\n%{http_code}", "http://" + p.Endpoint + path}, args...)
	out, err := exec.CommandContext(ctx, "curl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", path, err, out)
	}
	i := strings.LastIndexByte(string(out), '\n')
	return string(out[:i]), string(out[i+1:])
}

// spaces are those that protobuf's JSON puts in or leaves out as it likes.
var spaces = regexp.MustCompile(`([,:])\s+(["{\[\d-]|true|false)`)

func TestCurl(t *testing.T) {
	testkit.Need(t, "curl")
	p := testkit.NewProcess(t)
	p.Start()
	header := func(revision string) string {
		return `\{"header":\{"cluster_id":"\d+","member_id":"\d+","revision":"` + revision + `","raft_term":"\d+"\}`
	}
	for _, c := range []struct {
		path, data string // data: the body of a POST; empty: a GET
		code, want string
	}{
		{"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`, "200", header("2") + `\}`},
		{"/v3/kv/range", `{"key":"Zm9v"}`, "200", header("2") + `,"kvs":\[\{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"\}\],"count":"1"\}`},
		{"/v3beta/kv/range", `{"key":"Zm9v","count_only":true}`, "200", header("2") + `,"count":"1"\}`},
		{"/v3/kv/txn", `{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmFy","result":"EQUAL"}],"success":[{"requestPut":{"key":"Zm9v","value":"YQ=="}}]}`, "200", header("3") + `,"succeeded":true,"responses":\[\{"response_put":\{"header":\{"revision":"3"\}\}\}\]\}`},
		{"/v3/kv/txn", `{"success":[{}]}`, "400", `\{"code":3,"message":"etcdserver: key not found"\}`},
		{"/v3/kv/range", `{"key":"Zm9v","revision":"99"}`, "400", `\{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"\}`},
		{"/v3/kv/range", `{`, "400", `\{"code":3,"message":".*"\}`},
		{"/v3/kv/range", `{"key":""}`, "400", `\{"code":3,"message":"etcdserver: key is not provided"\}`},
		{"/v3/nothing", `{}`, "404", `\{"code":5,"message":"Not Found"\}`},
		{"/v3/kv/range", ``, "501", `\{"code":12,"message":"Method Not Allowed"\}`},
		{"/v3/lease/grant", `{"TTL":600,"ID":"77"}`, "200", header("3") + `,"ID":"77","TTL":"600"\}`},
		{"/v3/kv/lease/timetolive", `{"ID":77}`, "200", header("3") + `,"ID":"77","TTL":"\d+","grantedTTL":"600"\}`},
		{"/v3/maintenance/defragment", `{}`, "200", `\{\}`},
		{"/v3/maintenance/hashkv", `{}`, "200", header("3") + `,"hash":\d+,"compact_revision":"-1","hash_revision":"3"\}`},
		{"/v3/maintenance/status", `{}`, "200", header("3") + `,"version":"3\.7\.1",.*"storageVersion":"3\.7\.0".*"dbSizeQuota":"2147483648".*"downgradeInfo":\{\}.*\}`},
		{"/v3/cluster/member/list", `{}`, "200", `\{"header":\{"cluster_id":"\d+","member_id":"\d+","raft_term":"\d+"\},"members":\[\{"ID":"\d+","name":"m1","peerURLs":\["http://.*"\],"clientURLs":\["http://` + p.Endpoint + `"\]\}\]\}`},
		{"/health", ``, "200", `\{"health":"true","reason":""\}`},
		{"/livez", ``, "200", "ok\n"},
		{"/readyz?verbose", ``, "200", `(?:\[\+\]\w+ ok\n){4}ok\n`},
		{"/readyz/linearizable_read", ``, "200", "ok\n"},
		{"/version", ``, "200", `\{"etcdserver":"3\.7\.1","etcdcluster":"3\.7\.0","storage":"3\.7\.0"\}`},
		{"/metrics", ``, "200", `(?s).*etcd_server_has_leader 1\n.*etcd_server_version\{server_version="3\.7\.1"\} 1\n.*`},
		{"/v2/keys", ``, "200", `\{"action":"get","node":\{"dir":true\}\}\n`},
	} {
		var args []string
		if c.data != "" {
			args = []string{"-d", c.data}
		}
		body, code := curl(t, p, c.path, args...)
		if !strings.HasPrefix(c.path, "/v3") {
			if code != c.code || !regexp.MustCompile(`^(?:`+c.want+`)$`).MatchString(body) {
				t.Errorf("%s: got %s %q, want %s %q", c.path, code, body, c.code, c.want)
			}
			continue
		}
		body = spaces.ReplaceAllString(body, "$1$2")
		if code != c.code || !regexp.MustCompile(`^(?:`+c.want+`)$`).MatchString(body) {
			t.Errorf("%s %s: got %s %s, want %s %s", c.path, c.data, code, body, c.code, c.want)
		}
	}
}

// TestCurlWatch reads a watch line by line, as it comes.
func TestCurlWatch(t *testing.T) {
	testkit.Need(t, "curl")
	p := testkit.NewProcess(t)
	p.Start()
	curl(t, p, "/v3/kv/put", "-d", `{"key":"Zm9v","value":"YQ=="}`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", "-sSN", "http://"+p.Endpoint+"/v3/watch", "-d", `{"create_request":{"key":"Zm9v","start_revision":"2"}}`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var got string
	buf := make([]byte, 4096)
	for !strings.Contains(got, `"value":"YQ=="`) {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("got %q, then %v", got, err)
		}
		got += spaces.ReplaceAllString(string(buf[:n]), "$1$2")
	}
	if !regexp.MustCompile(`^\{"result":\{"header":\{.*\},"created":true\}\}\n\{"result":\{"header":\{.*\},"events":\[\{"kv":\{"key":"Zm9v".*\}\}\]\}\}\n$`).MatchString(got) {
		t.Errorf("got %q", got)
	}
}
