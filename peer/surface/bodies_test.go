package surface

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// route is a path of the gateway and what its body means.
type route struct {
	path   string
	input  protoreflect.MessageDescriptor
	stream bool // of answers
}

// routes are all paths of all services.
func routes(t *testing.T) (list []route) {
	t.Helper()
	for _, file := range []protoreflect.FileDescriptor{pb.File_rpc_proto, v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule == nil {
					continue // RangeStream
				}
				for _, binding := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
					list = append(list, route{binding.GetPost(), m.Input(), m.IsStreamingServer()})
				}
			}
		}
	}
	return list
}

// silence is what a stream that has nothing to tell is given.
const silence = time.Second

// volatile are parts of answers in which the two may differ at any time: sizes and log positions, what is in a database and
// the hash over it, ids that a server chooses, what is left of a lease.
var volatile = []string{
	`"(?:dbSize|dbSizeInUse|raftIndex|raftAppliedIndex)": ?"(\d+)"`,
	`"(?:ID|lease)": ?"(\d{12,})"`,
	`"TTL": ?"(\d+)", ?"grantedTTL"`,
}

// more are those of a few paths besides.
var more = map[string][]string{
	"/v3/maintenance/hash":     {`"hash": ?(\d+)`},
	"/v3/maintenance/snapshot": {`(?s)(\{"result".*\n)`},
	"/v3/lock/lock":            {`"key": ?"([^"]*)"`},
	"/v3/election/campaign":    {`"key": ?"([^"]*)"`},
}

// wrongShapes are bodies that no request has.
var wrongShapes = []string{"", "{}", "{", "}", "[]", "[{}]", "null", `"x"`, "1", "true", "nul", `{"nosuch":1}`, `{"nosuch":{"a":[1,2,{"b":null}]}}`,
	"{}{}", "{} x", "{},", " \n{}\n", "\xef\xbb\xbf{}", "{\"a\"}", "{'a':1}", "{\"\xff\":1}", "{\"key\":\"\xff\"}", `{"":""}`, "\x00",
	strings.Repeat("[", 20000), `{"nosuch":` + strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20001)}

// wrongVerbs are the methods that the gateway does not have.
var wrongVerbs = []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "NOSUCH"}

// values are what a field of a kind is given, good and bad.
func values(f protoreflect.FieldDescriptor) (list []string) {
	any := []string{"null", "{}", "[]", `""`, "true", "1", `"x"`, `"1"`, "-1", "1.5", "[null]", `[{}]`, `[1]`, `["x"]`}
	switch f.Kind() {
	case protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Int32Kind, protoreflect.Uint32Kind:
		return append(any, "1.0", "1e2", "1e400", `"1e2"`, `"1.0"`, `" 1"`, `"1 "`, `"01"`, "01", "+1", "-0", `"-0"`, "9223372036854775807", `"9223372036854775807"`,
			`"9223372036854775808"`, "18446744073709551615", `"18446744073709551616"`, `"-9223372036854775808"`, "2147483648", `"0x10"`, `"NaN"`, "NaN", "Infinity")
	case protoreflect.BytesKind:
		return append(any, `"Zm9v"`, `"Zm8="`, `"Zm8"`, `"Zm9v=="`, `"Zm9v="`, `"Z"`, `"Zg"`, `"Zh"`, `"!!"`, `"-_8="`, `"+/8="`, `"-/8="`, `"Zm9v\n"`, `"Zm 9v"`, `"\u005am9v"`, `"====" `)
	case protoreflect.StringKind:
		return append(any, `"\u0000"`, `"\ud800"`, `"\ud83d\ude00"`, `"\x"`, `"ä"`, "'x'")
	case protoreflect.BoolKind:
		return append(any, "false", `"true"`, `"false"`, "0", "TRUE")
	case protoreflect.EnumKind:
		list = append(any, "0", "2", "99", `"99"`, "2147483648", "1e0", `"nosuch"`, `"none"`)
		for i := range f.Enum().Values().Len() {
			list = append(list, `"`+string(f.Enum().Values().Get(i).Name())+`"`)
		}
		return list
	}
	return any
}

// fieldBodies are bodies in which one field, at any depth that a recursion does not make endless, has one of its values.
func fieldBodies(m protoreflect.MessageDescriptor, depth int) (list []string) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		for _, v := range values(f) {
			list = append(list, fmt.Sprintf(`{"%s":%s}`, f.Name(), v))
			if f.IsList() {
				list = append(list, fmt.Sprintf(`{"%s":[%s]}`, f.Name(), v))
			}
		}
		name := string(f.Name())
		camel := f.JSONName()
		for _, n := range []string{camel, strings.ToUpper(name), string(f.FullName()), fmt.Sprint(f.Number())} {
			if n != name {
				list = append(list, fmt.Sprintf(`{"%s":null}`, n), fmt.Sprintf(`{"%s":{"x":1}}`, n))
			}
		}
		list = append(list, fmt.Sprintf(`{"%s":null,"%s":null}`, name, name), fmt.Sprintf(`{"%s":1,"%s":1}`, name, camel))
		if f.Message() != nil && depth > 0 {
			for _, inner := range fieldBodies(f.Message(), depth-1) {
				if f.IsList() {
					inner = "[" + inner + "]"
				}
				list = append(list, fmt.Sprintf(`{"%s":%s}`, name, inner))
			}
		}
	}
	return list
}

// ends are bodies for an alarm that no etcd survives.
var ends = []string{`{"action":-1}`, `{"action":"-1"}`, `{"action":99}`, `{"action":"99"}`}

// TestGatewayBodies sends every path of the gateway bodies of every shape, and every field of its request what it can and
// cannot hold.
func TestGatewayBodies(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(strings.Trim(strings.ReplaceAll(r.path, "/", "_"), "_"), func(t *testing.T) {
			t.Parallel()
			var requests []request
			add := func(method, path, body string, header ...string) {
				a := request{method: method, path: path, body: body, header: header, masked: append(more[r.path], volatile...)}
				if r.stream && r.path != "/v3/maintenance/snapshot" {
					a.silence = silence
				}
				requests = append(requests, a)
				if r.path == "/v3/lock/lock" || r.path == "/v3/election/campaign" {
					// Nobody waits for who was before him.
					requests = append(requests, request{path: "/v3/kv/deleterange", body: `{"key":"AA==","range_end":"AA=="}`})
				}
			}
			for _, body := range wrongShapes {
				add("", r.path, body)
			}
			for _, verb := range wrongVerbs {
				add(verb, r.path, "{}")
			}
			add("", r.path+"/", "{}")
			add("", r.path+"?key=Zm9v", "{}")
			add("", r.path+":x", "{}")
			add("", strings.ToUpper(r.path), "{}")
			add("", strings.Replace(r.path, "/v3/", "/v3beta/", 1), "{}")
			add("", strings.Replace(r.path, "/v3/", "/v3alpha/", 1), "{}")
			add("", strings.Replace(r.path, "/v3/", "/v3//", 1), "{}")
			for _, kind := range []string{"application/json", "application/x-www-form-urlencoded", "text/plain", "application/grpc", "application/x-protobuf", "nonsense;;"} {
				add("", r.path, "{}", "Content-Type", kind)
				add("", r.path, "{}", "Accept", kind)
			}
			add("", r.path, "key=Zm9v", "Content-Type", "application/x-www-form-urlencoded")
			add("GET", r.path, "{}", "X-HTTP-Method-Override", "POST")
			add("POST", r.path, "key=Zm9v", "X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded")
			for _, timeout := range []string{"0S", "1n", "S", "x"} {
				add("", r.path, "{}", "Grpc-Timeout", timeout)
			}
			bodies := fieldBodies(r.input, 2)
			slices.Sort(bodies)
			for _, body := range slices.Compact(bodies) {
				if !(r.path == "/v3/maintenance/alarm" && slices.Contains(ends, body)) {
					add("", r.path, body)
				}
			}
			compare(t, nil, requests, r.stream)
		})
	}
}
