package v3

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/command/wire"
)

func TestCheckRange(t *testing.T) {
	for _, c := range []struct {
		name         string
		r            *pb.RangeRequest
		unary, chunk error
	}{
		{"plain", &pb.RangeRequest{Key: []byte("k")}, nil, nil},
		{"empty key", &pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey, rpctypes.ErrGRPCEmptyKey},
		{"empty key before bad sort", &pb.RangeRequest{SortOrder: 9}, rpctypes.ErrGRPCEmptyKey, rpctypes.ErrGRPCEmptyKey},
		{"order 3", &pb.RangeRequest{Key: []byte("k"), SortOrder: 3}, rpctypes.ErrGRPCInvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
		{"order -1", &pb.RangeRequest{Key: []byte("k"), SortOrder: -1}, rpctypes.ErrGRPCInvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
		{"target 5", &pb.RangeRequest{Key: []byte("k"), SortTarget: 5}, rpctypes.ErrGRPCInvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
		{"target -1", &pb.RangeRequest{Key: []byte("k"), SortTarget: -1}, rpctypes.ErrGRPCInvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
		{"ascending keys", &pb.RangeRequest{Key: []byte("k"), SortOrder: pb.RangeRequest_ASCEND}, nil, nil},
		{"descending keys", &pb.RangeRequest{Key: []byte("k"), SortOrder: pb.RangeRequest_DESCEND}, nil, errStreamSort},
		{"ascending values", &pb.RangeRequest{Key: []byte("k"), SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_VALUE}, nil, errStreamSort},
		{"unordered values", &pb.RangeRequest{Key: []byte("k"), SortTarget: pb.RangeRequest_VALUE}, nil, nil},
		{"min mod revision", &pb.RangeRequest{Key: []byte("k"), MinModRevision: 1}, nil, errStreamFilter},
		{"max mod revision", &pb.RangeRequest{Key: []byte("k"), MaxModRevision: -1}, nil, errStreamFilter},
		{"min create revision", &pb.RangeRequest{Key: []byte("k"), MinCreateRevision: 1}, nil, errStreamFilter},
		{"max create revision", &pb.RangeRequest{Key: []byte("k"), MaxCreateRevision: 1}, nil, errStreamFilter},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := checkRange(c.r); err != c.unary {
				t.Errorf("Range: %v, want %v", err, c.unary)
			}
			err := checkRange(c.r)
			if err == nil {
				err = checkRangeStream(c.r)
			}
			if err != c.chunk {
				t.Errorf("RangeStream: %v, want %v", err, c.chunk)
			}
		})
	}
}

func TestCheckPut(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *pb.PutRequest
		want error
	}{
		{"plain", &pb.PutRequest{Key: []byte("k")}, nil},
		{"empty key", &pb.PutRequest{Value: []byte("v"), IgnoreValue: true}, rpctypes.ErrGRPCEmptyKey},
		{"value kept and given", &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), IgnoreValue: true, IgnoreLease: true, Lease: 1}, rpctypes.ErrGRPCValueProvided},
		{"lease kept and given", &pb.PutRequest{Key: []byte("k"), IgnoreLease: true, Lease: -1}, rpctypes.ErrGRPCLeaseProvided},
		{"both kept", &pb.PutRequest{Key: []byte("k"), IgnoreLease: true, IgnoreValue: true}, nil},
		{"value kept, lease given", &pb.PutRequest{Key: []byte("k"), IgnoreValue: true, Lease: 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := checkPut(c.r); err != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
			in := &pb.TxnRequest{Failure: ops{txnOp(ops{{Request: &pb.RequestOp_RequestPut{RequestPut: c.r}}}, nil)}}
			if err := checkTxn(in, 128); err != c.want {
				t.Errorf("nested in a transaction: %v, want %v", err, c.want)
			}
		})
	}
}

// repeat makes a list of n puts of different keys.
func repeat(n int) ops {
	var list ops
	for i := range n {
		list = append(list, putOp(string(rune('A'+i))))
	}
	return list
}

func compares(n int, key string) []*pb.Compare {
	var list []*pb.Compare
	for range n {
		list = append(list, &pb.Compare{Key: []byte(key)})
	}
	return list
}

// nest wraps a list in n transactions.
func nest(list ops, n int) ops {
	for range n {
		list = ops{txnOp(nil, list)}
	}
	return list
}

func TestCheckTxn(t *testing.T) {
	bad := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k"), SortTarget: 7}}}
	for _, c := range []struct {
		name string
		r    *pb.TxnRequest
		want error
	}{
		{"empty", &pb.TxnRequest{}, nil},
		{"128 operations", &pb.TxnRequest{Success: repeat(128)}, nil},
		{"129 operations", &pb.TxnRequest{Success: repeat(129)}, rpctypes.ErrGRPCTooManyOps},
		{"129 compares", &pb.TxnRequest{Compare: compares(129, "k")}, rpctypes.ErrGRPCTooManyOps},
		{"maximum, not sum", &pb.TxnRequest{Compare: compares(128, "k"), Success: repeat(128), Failure: repeat(128)}, nil},
		{"nested use up the rest", &pb.TxnRequest{Success: append(repeat(63), txnOp(nil, nest(repeat(64), 0))), Compare: compares(64, "k")}, rpctypes.ErrGRPCDuplicateKey},
		{"nested beyond the rest", &pb.TxnRequest{Failure: ops{txnOp(repeat(128), nil)}}, rpctypes.ErrGRPCTooManyOps},
		{"nested up to the rest", &pb.TxnRequest{Failure: ops{txnOp(repeat(127), nil)}}, nil},
		{"width and depth share the limit", &pb.TxnRequest{Success: nest(repeat(8), 120)}, nil},
		{"one more", &pb.TxnRequest{Success: nest(repeat(9), 120)}, rpctypes.ErrGRPCTooManyOps},
		{"too many before a missing key", &pb.TxnRequest{Success: repeat(129), Compare: compares(1, "")}, rpctypes.ErrGRPCTooManyOps},
		{"compare without key", &pb.TxnRequest{Compare: compares(1, ""), Success: ops{{}}}, rpctypes.ErrGRPCEmptyKey},
		{"operation without content", &pb.TxnRequest{Success: ops{{}}}, rpctypes.ErrGRPCKeyNotFound},
		{"no operation at all", &pb.TxnRequest{Failure: ops{nil}}, rpctypes.ErrGRPCKeyNotFound},
		{"operation without request", &pb.TxnRequest{Success: ops{{Request: &pb.RequestOp_RequestPut{}}}}, rpctypes.ErrGRPCEmptyKey},
		{"bad sort", &pb.TxnRequest{Success: ops{bad}}, rpctypes.ErrGRPCInvalidSortOption},
		{"bad sort, nested", &pb.TxnRequest{Failure: nest(ops{bad}, 3)}, rpctypes.ErrGRPCInvalidSortOption},
		{"delete without key", &pb.TxnRequest{Success: ops{deleteOp("", "z")}}, rpctypes.ErrGRPCEmptyKey},
		{"range without key", &pb.TxnRequest{Success: ops{rangeOp("", "z")}}, rpctypes.ErrGRPCEmptyKey},
		{"success before failure", &pb.TxnRequest{Success: ops{deleteOp("", "")}, Failure: ops{{}}}, rpctypes.ErrGRPCEmptyKey},
		{"shape before overlap", &pb.TxnRequest{Success: ops{putOp("a"), putOp("a")}, Failure: ops{{}}}, rpctypes.ErrGRPCKeyNotFound},
		{"overlap, nested", &pb.TxnRequest{Failure: nest(ops{putOp("a"), putOp("a")}, 5)}, rpctypes.ErrGRPCDuplicateKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := checkTxn(c.r, 128); err != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestTxnDepthStaysReadable: what a limit of any size lets through, the log can hold.
func TestTxnDepthStaysReadable(t *testing.T) {
	deepest := &pb.TxnRequest{Success: nest(nil, txnDepthMax-1)}
	if err := checkTxn(deepest, 1<<20); err != nil {
		t.Fatalf("%d levels: %v", txnDepthMax, err)
	}
	c := command.Command{Op: wire.Txn(deepest)}
	if _, err := command.Decode(c.Append(nil)); err != nil {
		t.Errorf("the log can't hold it: %v", err)
	}
	if err := checkTxn(&pb.TxnRequest{Success: nest(nil, txnDepthMax)}, 1<<20); err != rpctypes.ErrGRPCTooManyOps {
		t.Errorf("%d levels: %v", txnDepthMax+1, err)
	}
}

// FuzzTxn: any bytes that are a TxnRequest are judged without a panic, the verdict on overlaps is the naive one, and what
// passes survives the way into the log and back.
func FuzzTxn(f *testing.F) {
	for _, c := range overlapCases {
		b, err := proto.Marshal(&pb.TxnRequest{Success: c.ops, Compare: compares(1, "c")})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x12, 0x00})                   // an operation without content
	f.Add([]byte{0x12, 0x02, 0x22, 0x00})       // an empty nested transaction
	f.Add([]byte{0x12, 0x02, 0x12, 0x00})       // an empty put
	f.Add([]byte{0x0a, 0x03, 0x08, 0x7f, 0x1a}) // a compare cut short
	f.Fuzz(func(t *testing.T, b []byte) {
		r := new(pb.TxnRequest)
		if proto.Unmarshal(b, r) != nil {
			return
		}
		txnCost(r)
		if checkTxnOps(r, 128, 1) != nil {
			if checkTxn(r, 128) == nil {
				t.Fatal("checkTxn lets pass what checkTxnOps does not")
			}
			return
		}
		_, _, success := naiveOverlap(r.Success)
		_, _, failure := naiveOverlap(r.Failure)
		err := checkTxn(r, 128)
		if (err != nil) != (success || failure) {
			t.Fatalf("overlap: %v, naive: %v, %v", err, success, failure)
		}
		if err != nil {
			return
		}
		if readOnly(r) {
			serializable(r)
		}
		op := wire.Txn(r)
		c := command.Command{Op: op}
		encoded := c.Append(nil)
		if _, err := command.Decode(encoded); err != nil {
			t.Fatalf("the command can't be read back: %v", err)
		}
	})
}

func TestTxnCost(t *testing.T) {
	put := func(key, value int) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: make([]byte, key), Value: make([]byte, value)}}}
	}
	for _, c := range []struct {
		name string
		r    *pb.TxnRequest
		want int64
	}{
		{"nothing", &pb.TxnRequest{}, 0},
		{"deletes and ranges", &pb.TxnRequest{Success: ops{deleteOp("a", ""), rangeOp("a", "")}, Failure: ops{{}}}, 0},
		{"the dearer branch", &pb.TxnRequest{Success: ops{put(1, 10), put(2, 20)}, Failure: ops{put(1, 1000)}}, 256 + 1001},
		{"nested", &pb.TxnRequest{Success: ops{put(1, 1), txnOp(ops{put(1, 5)}, ops{put(1, 7)})}}, 256 + 2 + 256 + 8},
	} {
		if got := txnCost(c.r); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestCompareOperand(t *testing.T) {
	version := &pb.Compare{Key: []byte("k"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 7}}
	if c := wire.Compare(version); c.Number != 7 {
		t.Errorf("operand %d, want 7", c.Number)
	}
	version.Target = pb.Compare_MOD
	if c := wire.Compare(version); c.Number != 0 || c.Value != nil {
		t.Errorf("an operand for another target counts: %+v", c)
	}
	value := &pb.Compare{Key: []byte("k"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("v")}}
	if c := wire.Compare(value); string(c.Value) != "v" {
		t.Errorf("operand %q, want v", c.Value)
	}
}

func TestReadOnly(t *testing.T) {
	local := rangeOp("a", "")
	local.GetRequestRange().Serializable = true
	for _, c := range []struct {
		name                   string
		r                      *pb.TxnRequest
		readOnly, serializable bool
	}{
		{"empty", &pb.TxnRequest{}, true, true},
		{"a range", &pb.TxnRequest{Success: ops{rangeOp("a", "")}}, true, false},
		{"a local range", &pb.TxnRequest{Success: ops{local}}, true, true},
		{"a local and a linearizable one", &pb.TxnRequest{Success: ops{local}, Failure: ops{rangeOp("a", "")}}, true, false},
		{"a put in the other branch", &pb.TxnRequest{Success: ops{local}, Failure: ops{putOp("a")}}, false, false},
		{"a nested transaction that reads", &pb.TxnRequest{Success: ops{txnOp(ops{local}, nil)}}, false, false},
	} {
		if got := readOnly(c.r); got != c.readOnly {
			t.Errorf("%s: readOnly %v", c.name, got)
		}
		if got := readOnly(c.r) && serializable(c.r); got != c.serializable {
			t.Errorf("%s: serializable %v", c.name, got)
		}
	}
}
