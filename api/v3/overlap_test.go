package v3

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 4000, "rounds of random tests")
)

// seeded returns the generator of a random test, and prints how to repeat it.
func seeded(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func deleteOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}

func rangeOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{
		RequestRange: &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}

func txnOp(success, failure []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{
		RequestTxn: &pb.TxnRequest{Success: success, Failure: failure},
	}}
}

type ops = []*pb.RequestOp

// overlapCases are the rules, by name.
var overlapCases = []struct {
	name string
	ops  ops
	dup  bool
}{
	{"put and put of one key", ops{putOp("a"), putOp("a")}, true},
	{"puts of two keys", ops{putOp("a"), putOp("b")}, false},
	{"put then delete of one key", ops{putOp("a"), deleteOp("a", "")}, true},
	{"delete then put of one key", ops{deleteOp("a", ""), putOp("a")}, true},
	{"put inside a delete", ops{putOp("b"), deleteOp("a", "c")}, true},
	{"put at the start of a delete", ops{putOp("a"), deleteOp("a", "c")}, true},
	{"put at the end of a delete", ops{putOp("c"), deleteOp("a", "c")}, false},
	{"put before a delete", ops{putOp("A"), deleteOp("a", "c")}, false},
	{"delete and delete", ops{deleteOp("a", "c"), deleteOp("b", "d"), deleteOp("a", "")}, false},
	{"put and range of one key", ops{putOp("a"), rangeOp("a", ""), rangeOp("a", "z")}, false},
	{"delete and range of one key", ops{deleteOp("a", ""), rangeOp("a", "")}, false},
	{"delete from a key on, put above", ops{deleteOp("a", "\x00"), putOp("b")}, false},
	{"delete from a key on, put of its start", ops{deleteOp("a", "\x00"), putOp("a")}, false},
	{"delete of an empty range, put of its start", ops{deleteOp("b", "a"), putOp("b")}, false},
	{"nested put of the start of an empty range", ops{deleteOp("b", "a"), txnOp(ops{putOp("b"), putOp("a")}, nil)}, false},
	{"nested put of a key that is put", ops{putOp("a"), txnOp(ops{putOp("a")}, nil)}, true},
	{"key that is put after a nested put", ops{txnOp(nil, ops{putOp("a")}), putOp("a")}, true},
	{"nested put of a key that is deleted", ops{txnOp(ops{putOp("b")}, nil), deleteOp("a", "c")}, true},
	{"put of a key that is deleted nested", ops{txnOp(nil, ops{deleteOp("a", "c")}), putOp("b")}, true},
	{"same key in both branches", ops{txnOp(ops{putOp("a")}, ops{putOp("a")})}, false},
	{"deleted in one branch, put in the other", ops{txnOp(ops{deleteOp("a", "z")}, ops{putOp("b")})}, false},
	{"same key twice in one branch", ops{txnOp(ops{putOp("a"), putOp("a")}, nil)}, true},
	{"same key in two siblings", ops{txnOp(ops{putOp("a")}, nil), txnOp(nil, ops{putOp("a")})}, true},
	{"same key in both branches and a sibling", ops{txnOp(ops{putOp("a")}, ops{putOp("a")}), txnOp(ops{putOp("a")}, nil)}, true},
	{"deleted in a sibling, then put", ops{txnOp(ops{deleteOp("a", "c")}, nil), txnOp(ops{putOp("b")}, nil)}, true},
	{"put in a sibling, then deleted", ops{txnOp(ops{putOp("b")}, nil), txnOp(ops{deleteOp("a", "c")}, nil)}, false},
	{"two levels down", ops{txnOp(ops{txnOp(nil, ops{putOp("a")})}, nil), putOp("a")}, true},
	{"branches, two levels down", ops{txnOp(ops{txnOp(nil, ops{putOp("a")})}, ops{txnOp(ops{putOp("a")}, nil)})}, false},
}

func TestOverlapRules(t *testing.T) {
	for _, c := range overlapCases {
		t.Run(c.name, func(t *testing.T) {
			if got := overlap(c.ops); got != c.dup {
				t.Errorf("overlap is %v, want %v", got, c.dup)
			}
			general := newOverlaps(c.ops)
			if got := general.visit(general.root); got != c.dup {
				t.Errorf("the general walk says %v, want %v", got, c.dup)
			}
			if _, _, got := naiveOverlap(c.ops); got != c.dup {
				t.Errorf("the naive evaluator says %v, want %v", got, c.dup)
			}
		})
	}
	same := &pb.TxnRequest{Success: ops{putOp("a")}, Failure: ops{putOp("a")}}
	if err := checkOverlaps(same); err != nil {
		t.Errorf("top-level branches are independent, got %v", err)
	}
	same.Failure = append(same.Failure, putOp("a"))
	if err := checkOverlaps(same); err != rpctypes.ErrGRPCDuplicateKey {
		t.Errorf("overlap in the failure branch gives %v", err)
	}
}

// naiveOverlap judges a list by the words of the specification, comparing everything with everything.
func naiveOverlap(list ops) (puts []string, dels []*pb.DeleteRangeRequest, dup bool) {
	refused := func(key string) bool {
		for _, p := range puts {
			if p == key {
				return true
			}
		}
		for _, d := range dels {
			start, end := string(d.Key), string(d.RangeEnd)
			if start == key && end == "" || start <= key && key < end {
				return true
			}
		}
		return false
	}
	for _, op := range list {
		if d := op.GetRequestDeleteRange(); d != nil {
			dels = append(dels, d)
		}
	}
	for _, op := range list {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		var found [2][]string
		var gone []*pb.DeleteRangeRequest
		for i, branch := range []ops{nested.Success, nested.Failure} {
			p, d, dup := naiveOverlap(branch)
			if dup {
				return nil, nil, true
			}
			found[i], gone = p, append(gone, d...)
		}
		for _, branch := range found {
			for _, key := range branch {
				if refused(key) {
					return nil, nil, true
				}
			}
		}
		puts = append(puts, append(found[0], found[1]...)...)
		dels = append(dels, gone...)
	}
	for _, op := range list {
		if p := op.GetRequestPut(); p != nil {
			if refused(string(p.Key)) {
				return nil, nil, true
			}
			puts = append(puts, string(p.Key))
		}
	}
	return puts, dels, false
}

// randomOps draws a list of operations over few or many keys.
func randomOps(rnd *rand.Rand, depth, keys int) ops {
	var list ops
	key := func() string { return fmt.Sprintf("k%03d", rnd.IntN(keys)) }
	for range rnd.IntN(7) {
		switch n := rnd.IntN(10); {
		case n < 5:
			list = append(list, putOp(key()))
		case n < 6:
			list = append(list, deleteOp(key(), [...]string{"", "\x00", key(), key()}[rnd.IntN(4)]))
		case n < 7:
			list = append(list, rangeOp(key(), key()))
		case depth > 0:
			list = append(list, txnOp(randomOps(rnd, depth-1, keys), randomOps(rnd, depth-1, keys)))
		}
	}
	return list
}

func TestOverlapEqualsNaive(t *testing.T) {
	rnd := seeded(t)
	var verdicts [2]int
	for round := range *roundsFlag {
		list := randomOps(rnd, rnd.IntN(4), []int{5, 40, 999}[rnd.IntN(3)])
		_, _, want := naiveOverlap(list)
		if got := overlap(list); got != want {
			t.Fatalf("round %d: overlap is %v, want %v: %v", round, got, want, list)
		}
		general := newOverlaps(list)
		if got := general.visit(general.root); got != want {
			t.Fatalf("round %d: the general walk says %v, want %v: %v", round, got, want, list)
		}
		if want {
			verdicts[1]++
		} else if len(list) > 1 {
			verdicts[0]++
		}
	}
	if verdicts[0] < *roundsFlag/20 || verdicts[1] < *roundsFlag/20 {
		t.Errorf("lopsided: %d without, %d with overlap", verdicts[0], verdicts[1])
	}
}

// deepTxn nests levels transactions around width puts; every level deletes a key of its own.
func deepTxn(levels, width int) ops {
	var inner ops
	for i := range width {
		inner = append(inner, putOp(fmt.Sprintf("p%07d", i)))
	}
	for i := range levels {
		inner = ops{deleteOp(fmt.Sprintf("d%03d", i), ""), txnOp(inner, nil)}
	}
	return inner
}

// TestOverlapDeepAndWide: a put at the bottom meets a delete at the top.
func TestOverlapDeepAndWide(t *testing.T) {
	const levels, width = 60, 5000
	list := deepTxn(levels, width)
	if overlap(list) {
		t.Error("overlap found where there is none")
	}
	if !overlap(append(list, deleteOp("p0004999", ""))) {
		t.Error("delete at the top, put 60 levels below: overlap not found")
	}
	if overlap(append(list, deleteOp("p0005000", ""))) {
		t.Error("overlap found with a key that nobody puts")
	}
}

func BenchmarkOverlapHostile(b *testing.B) {
	list := deepTxn(60, 50_000)
	for b.Loop() {
		overlap(list)
	}
}

func BenchmarkOverlapFlat(b *testing.B) {
	list := ops{putOp("registry/a"), deleteOp("registry/b", ""), putOp("registry/c")}
	b.ReportAllocs()
	for b.Loop() {
		overlap(list)
	}
}
