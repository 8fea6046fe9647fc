package peer

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/node"
	"keelson/state/lease"
)

func TestRenewalsRoundTrip(t *testing.T) {
	ids := []lease.ID{0, 1, -1, math.MaxInt64, math.MinInt64}
	var b []byte
	for _, id := range ids {
		b = appendRenewal(b, id)
		if len(appendRenewal(nil, id)) > renewalBytesMax {
			t.Errorf("%d is longer than the bound", id)
		}
	}
	if got, err := parseRenewals(b); err != nil || !slices.Equal(got, ids) {
		t.Errorf("%v, %v", got, err)
	}
	answers := []renewed{{id: -5, ttlSeconds: 60}, {id: 0}, {id: 7, err: node.ErrTimeout}, {id: 8, ttlSeconds: 1, err: errors.New("odd")}}
	b = nil
	for _, a := range answers {
		b = appendRenewed(b, a)
	}
	got, err := parseRenewed(b)
	if err != nil || len(got) != len(answers) {
		t.Fatal(got, err)
	}
	for i, a := range answers {
		same := got[i].err == a.err || a.err != nil && got[i].err != nil && got[i].err.Error() == a.err.Error()
		if got[i].id != a.id || got[i].ttlSeconds != a.ttlSeconds || !same {
			t.Errorf("%+v became %+v", a, got[i])
		}
	}
}

// TestRenewalsAreMessages: requests and replies are the v3 API's messages, one after the other; of several, the last one
// is what such a message holds.
func TestRenewalsAreMessages(t *testing.T) {
	var ask pb.LeaseKeepAliveRequest
	if err := proto.Unmarshal(appendRenewal(appendRenewal(nil, 4), -7), &ask); err != nil || ask.ID != -7 {
		t.Errorf("%v, %v", &ask, err)
	}
	b, err := proto.Marshal(&pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{Revision: 9}, ID: 4, TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseRenewed(b); err != nil || len(got) != 1 || got[0] != (renewed{id: 4, ttlSeconds: 60}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRenewedRefuses(t *testing.T) {
	for name, b := range map[string]string{
		"a TTL without an id":    "\x18\x01",
		"an error without an id": "\x22\x01x",
		"cut off":                "\x10\x01\x22\x05abc",
		"field 0":                "\x00\x01",
	} {
		if got, err := parseRenewed([]byte(b)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzLeaseWire(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendRenewal(appendRenewal(nil, 5), -1))
	f.Add(appendRenewed(appendRenewed(nil, renewed{id: 5, ttlSeconds: 60}), renewed{id: -1, err: node.ErrTimeout}))
	f.Add([]byte("\x18\x01\x10\x02"))
	f.Add([]byte("\x0d\x01\x02\x03\x04\x08\x05"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ids, err := parseRenewals(b); err == nil {
			var again []byte
			for _, id := range ids {
				again = appendRenewal(again, id)
			}
			if back, err := parseRenewals(again); err != nil || !slices.Equal(back, ids) {
				t.Fatalf("%x: %v became %v, %v", b, ids, back, err)
			}
		}
		if answers, err := parseRenewed(b); err == nil {
			var once, twice []byte
			for _, a := range answers {
				once = appendRenewed(once, a)
			}
			back, err := parseRenewed(once)
			for _, a := range back {
				twice = appendRenewed(twice, a)
			}
			if err != nil || len(back) != len(answers) || !bytes.Equal(once, twice) && !trimmed(answers) {
				t.Fatalf("%x: %+v became %+v, %v", b, answers, back, err)
			}
		}
	})
}

// trimmed reports texts that lose blanks on their way.
func trimmed(list []renewed) bool {
	return slices.ContainsFunc(list, func(r renewed) bool {
		return r.err != nil && textError(r.err.Error()).Error() != r.err.Error()
	})
}
