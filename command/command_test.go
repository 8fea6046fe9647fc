package command_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"keelson/command"
	"keelson/command/commandtest"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag  = flag.Int("rounds", 20000, "commands to try in random tests")
	rewriteFlag = flag.Bool("rewrite", false, "write golden files anew")
)

func seed(t *testing.T) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// everyOp has one command of each of the first kinds, with every field set that there was at first.
func everyOp() []command.Command {
	put := &command.Put{Key: []byte("k"), Value: []byte("value"), Lease: -7, PrevKV: true, IgnoreValue: true, IgnoreLease: true}
	del := &command.DeleteRange{Key: []byte("a"), End: []byte("b"), PrevKV: true}
	rng := &command.Range{
		Key: []byte("a"), End: []byte{0}, Limit: 1, Revision: -2, SortOrder: 1, SortTarget: 4, KeysOnly: true, CountOnly: true,
		ModRevisionMin: 3, ModRevisionMax: 4, CreateRevisionMin: 5, CreateRevisionMax: -1,
	}
	cmp := command.Compare{Key: []byte("c"), End: []byte("d"), Target: 3, Result: 2, Number: math.MinInt64, Value: []byte("v")}
	txn := &command.Txn{Compares: []command.Compare{cmp}, Success: []command.Op{put, rng}, Failure: []command.Op{del}}
	ops := []command.Op{
		rng, put, del,
		&command.Txn{Compares: []command.Compare{cmp, cmp}, Success: []command.Op{txn, put}, Failure: []command.Op{rng, txn}},
		&command.Compact{Revision: math.MaxInt64},
		&command.LeaseGrant{ID: math.MinInt64, TTLSeconds: 60},
		&command.LeaseRevoke{ID: 300, Term: math.MaxUint64},
		&command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: 1, RemainingSeconds: 20}, {ID: -1}}},
		&command.MemberPublish{ID: math.MaxUint64, Name: "one", ClientURLs: []string{"http://a:1", "http://b:2"}},
		&command.ClusterVersion{Version: "3.7.0"},
		&command.HashCheck{Index: 5, Hash: math.MaxUint64, From: 9},
		&command.Alarm{Member: 8, Type: 2, Raise: true},
		&command.Noop{},
	}
	var list []command.Command
	for i, op := range ops {
		c := command.Command{Op: op}
		if i%2 == 0 {
			c.Time, c.User, c.AuthRevision = 1764000000123456789, "root", 12
		}
		list = append(list, c)
	}
	return list
}

// expiries are revokes that name the grant they are about.
func expiries() []command.Command {
	return []command.Command{
		{Op: &command.LeaseRevoke{ID: -1, Term: 7, GrantIndex: 300}},
		{Op: &command.LeaseRevoke{ID: 1, Term: 1, GrantIndex: math.MaxUint64, GrantOrdinal: math.MaxUint32}},
	}
}

// downgrades are kept apart from the ops that were there before them.
func downgrades() []command.Command {
	return []command.Command{{Op: &command.Downgrade{Target: "3.6.0"}}, {Op: &command.Downgrade{}}}
}

// membership are the changes of who belongs.
func membership() []command.Command {
	return []command.Command{
		{Time: 1764000000123456789, User: "root", Op: &command.MemberAdd{
			ID: math.MaxUint64, PeerURLs: []string{"http://a:2380", "http://b:2380"}, IsLearner: true, LearnersMax: 2, AutoPromote: true,
		}},
		{Op: &command.MemberAdd{ID: 3, PeerURLs: []string{"", "x"}, LearnersMax: -1}},
		{Op: &command.MemberRemove{ID: 300}},
		{Op: &command.MemberUpdate{ID: 1 << 63, PeerURLs: []string{"https://c:2380"}}},
		{Op: &command.MemberUpdate{ID: 4}},
		{Op: &command.MemberPromote{ID: 5}},
	}
}

// checkpoints name the leader's term, and the grant and the checkpoint that each lease is known by.
func checkpoints() []command.Command {
	return []command.Command{
		{Op: &command.LeaseCheckpoint{Term: 9, Leases: []command.LeaseRemaining{
			{ID: -1, RemainingSeconds: 20, GrantIndex: 300},
			{ID: 1, RemainingSeconds: 1, GrantIndex: math.MaxUint64, GrantOrdinal: math.MaxUint32, CheckpointIndex: math.MaxUint64},
		}}},
		{Op: &command.LeaseCheckpoint{Term: math.MaxUint64}},
	}
}

// trees are ops of the v2 tree.
func trees() []command.Command {
	return []command.Command{
		{Time: 1764000000123456789, Op: &command.TreePut{
			Path: "/a/b", Mode: command.TreeCompareAndSwap, Dir: true, Value: []byte("v"), Deadline: 1764000001123456789,
			Refresh: true, PrevValue: []byte("old"), PrevIndex: math.MaxUint64,
		}},
		{Op: &command.TreePut{Path: "/a", Deadline: -1}},
		{Op: &command.TreeDelete{Path: "/a", Compare: true, Dir: true, Recursive: true, PrevValue: []byte("old"), PrevIndex: 300}},
		{Op: &command.TreeDelete{Path: "/"}},
		{Op: &command.TreeExpire{Stamp: 1764000000123456789, Limit: 1000}},
	}
}

// users are the ops about users and roles.
func users() []command.Command {
	ops := []command.Op{
		&command.AuthEnable{}, &command.AuthDisable{},
		&command.UserAdd{Name: "alice", Hash: []byte("$2a$10$x")}, &command.UserAdd{Name: "\x00", NoPassword: true},
		&command.UserDelete{Name: "alice"},
		&command.UserChangePassword{Name: "alice", Hash: []byte{0xff}}, &command.UserChangePassword{},
		&command.UserGrantRole{Name: "alice", Role: "reader"}, &command.UserRevokeRole{Name: "alice", Role: "reader"},
		&command.RoleAdd{Name: "reader"}, &command.RoleDelete{Name: "reader"},
		&command.RoleGrantPermission{Role: "reader", Access: 2, Key: []byte("a"), End: []byte{0}},
		&command.RoleGrantPermission{Role: "reader", Access: math.MinInt32},
		&command.RoleRevokePermission{Role: "reader", Key: []byte("a"), End: []byte("b")},
		&command.TokenAssign{User: "alice", Digest: make([]byte, 32)},
	}
	var list []command.Command
	for _, op := range ops {
		list = append(list, command.Command{Time: 1764000000123456789, User: "root", AuthRevision: math.MaxUint64, Op: op})
	}
	return list
}

// treeAccess are changes of the v2 API's users and roles.
func treeAccess() []command.Command {
	return []command.Command{
		{Op: &command.TreeUser{
			Name: "alice", Mode: command.TreeAccessUpdate, Hash: []byte("$2a$"), Roles: []string{"a"}, Grant: []string{"b", ""}, Revoke: []string{"c"},
		}},
		{Op: &command.TreeUser{Name: "bob"}},
		{Op: &command.TreeRole{
			Name: "r", Mode: command.TreeAccessDelete, Read: []string{"/a"}, Write: []string{"/b/*"}, GrantRead: []string{"/c"},
			GrantWrite: []string{"/d"}, RevokeRead: []string{"/e"}, RevokeWrite: []string{"/f"},
		}},
		{Op: &command.TreeAccess{Enabled: true}},
		{Op: &command.TreeAccess{}},
	}
}

// treeEmpty are users and roles of the v2 API with lists that are empty, not nil.
func treeEmpty() []command.Command {
	return []command.Command{
		{Op: &command.TreeUser{Name: "bob", Roles: []string{}}},
		{Op: &command.TreeRole{Name: "r", Mode: command.TreeAccessCreate, Read: []string{}, Write: []string{"/b"}}},
		{Op: &command.TreeRole{Name: "r", Mode: command.TreeAccessCreate, Write: []string{}}},
	}
}

// all is every command that a golden file holds.
func all() []command.Command {
	return slices.Concat(everyOp(), expiries(), membership(), downgrades(), checkpoints(), trees(), treeAccess(), treeEmpty(), users())
}

func TestEveryOpSurvivesTheRoundTrip(t *testing.T) {
	for _, c := range all() {
		got, err := command.Decode(c.Append(nil))
		if err != nil {
			t.Fatalf("%T: %v", c.Op, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%T: got %+v, want %+v", c.Op, got, c)
		}
	}
}

// A command that was decoded and encoded again is the same bytes; this also holds where nil and empty differ.
func TestRandomCommandsSurviveTheRoundTrip(t *testing.T) {
	g := commandtest.Generator{R: seed(t), Keys: 8, Leases: 4, Revision: 50, AuthRevision: 9, Tree: true, Users: true, Wild: true}
	prefix := []byte("untouched")
	for range *roundsFlag {
		c := g.Command()
		encoded := c.Append(prefix)
		if !bytes.HasPrefix(encoded, prefix) {
			t.Fatalf("%+v: what stood before was overwritten", c)
		}
		encoded = encoded[len(prefix):]
		got, err := command.Decode(encoded)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if again := got.Append(nil); !bytes.Equal(again, encoded) {
			t.Fatalf("%+v: encoded again as\n%x, want\n%x", c, again, encoded)
		}
	}
}

// Long bodies need length prefixes of two and three bytes, also around other messages.
func TestLengthPrefixesOfEverySize(t *testing.T) {
	for _, n := range []int{0, 1, 100, 118, 119, 120, 121, 122, 126, 127, 128, 129, 16370, 16383, 16384, 2<<20 - 1, 2 << 20} {
		put := &command.Put{Key: []byte("k"), Value: make([]byte, n)}
		c := command.Command{Op: &command.Txn{Success: []command.Op{&command.Txn{Failure: []command.Op{put}}, put}}}
		encoded := c.Append(nil)
		got, err := command.Decode(encoded)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(got.Append(nil), encoded) {
			t.Errorf("%d bytes: not the same again", n)
		}
		if v := got.Op.(*command.Txn).Success[1].(*command.Put).Value; len(v) != n {
			t.Errorf("%d bytes: got %d", n, len(v))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	nested := func(depth int) []byte {
		var op command.Op = &command.Put{Key: []byte("k")}
		for range depth {
			op = &command.Txn{Success: []command.Op{op}}
		}
		c := command.Command{Op: op}
		return c.Append(nil)
	}
	if _, err := command.Decode(nested(1000)); err != nil {
		t.Errorf("1000 deep: %v", err)
	}
	for name, b := range map[string][]byte{
		"nothing":                        {},
		"no op":                          {0x08, 0x01},
		"two ops":                        {0xea, 0x01, 0x00, 0xea, 0x01, 0x00},
		"an op as a number":              {0xe8, 0x01, 0x00},
		"an op of the future":            {0xfa, 0x02, 0x00},
		"op 0":                           {0x82, 0x01, 0x00},
		"op 256 + put":                   {0x92, 0x11, 0x00},
		"a gap in the envelope":          {0x20, 0x01, 0xea, 0x01, 0x00},
		"field 0":                        {0x00, 0x01},
		"time as bytes":                  {0x0a, 0x00, 0xea, 0x01, 0x00},
		"a fixed-size field":             {0x0d, 0, 0, 0, 0, 0xea, 0x01, 0x00},
		"a group":                        {0x0b, 0x0c},
		"a number without an end":        {0x08, 0x80},
		"a number of eleven bytes":       {0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"bytes longer than the message":  {0x92, 0x01, 0x05, 0x0a},
		"one byte short":                 {0x92, 0x01, 0x03, 0x0a, 0x01},
		"one byte short within":          {0x92, 0x01, 0x02, 0x0a, 0x01, 0xff},
		"a length of 2^63":               {0x92, 0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"an unknown field of a put":      {0x92, 0x01, 0x02, 0x38, 0x01},
		"a put's key as a number":        {0x92, 0x01, 0x02, 0x08, 0x01},
		"a put's lease as bytes":         {0x92, 0x01, 0x02, 0x1a, 0x00},
		"a field of a noop":              {0xea, 0x01, 0x02, 0x08, 0x01},
		"a lease grant in a txn":         {0xa2, 0x01, 0x03, 0xb2, 0x01, 0x00},
		"a member add in a txn":          {0xa2, 0x01, 0x03, 0xf2, 0x01, 0x00},
		"an unknown field of a member":   {0xf2, 0x01, 0x02, 0x30, 0x01},
		"a peer URL as a number":         {0xf2, 0x01, 0x02, 0x10, 0x01},
		"a removal with a URL":           {0xfa, 0x01, 0x02, 0x12, 0x00},
		"a member's id as bytes":         {0x82, 0x02, 0x02, 0x0a, 0x00},
		"a promotion with two fields":    {0x8a, 0x02, 0x04, 0x08, 0x01, 0x10, 0x01},
		"a checkpoint's term as bytes":   {0xc2, 0x01, 0x02, 0x12, 0x00},
		"an unknown field of a lease":    {0xc2, 0x01, 0x04, 0x0a, 0x02, 0x30, 0x01},
		"mode 5 of a tree put":           {0x82, 0x05, 0x02, 0x10, 0x05},
		"an unknown field of a tree put": {0x82, 0x05, 0x02, 0x48, 0x01},
		"a tree put in a txn":            {0xa2, 0x01, 0x03, 0x82, 0x06, 0x00},
		"tree op 95":                     {0xfa, 0x06, 0x00},
		"an unknown field of enabling":   {0x82, 0x03, 0x02, 0x08, 0x01},
		"an unknown field of a user":     {0x92, 0x03, 0x02, 0x20, 0x01},
		"a user's name as a number":      {0x92, 0x03, 0x02, 0x08, 0x01},
		"a role add in a txn":            {0xa2, 0x01, 0x03, 0xba, 0x03, 0x00},
		"a compare as a number":          {0xa2, 0x01, 0x02, 0x08, 0x01},
		"txn field 32, between branches": {0xa2, 0x01, 0x03, 0x82, 0x02, 0x00},
		"a txn 5000 deep":                nested(5000),
	} {
		if c, err := command.Decode(b); !errors.Is(err, command.ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
}

func TestNumbersOutOfRangeStayUnknown(t *testing.T) {
	// An alarm type of 2^32 + 1 must not turn into type 1, nor such an ordinal into ordinal 1.
	c, err := command.Decode([]byte{0xe2, 0x01, 0x06, 0x10, 0x81, 0x80, 0x80, 0x80, 0x10})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Op.(*command.Alarm).Type; got != math.MaxInt32 {
		t.Errorf("type %d", got)
	}
	c, err = command.Decode([]byte{0xba, 0x01, 0x06, 0x20, 0x81, 0x80, 0x80, 0x80, 0x10})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Op.(*command.LeaseRevoke).GrantOrdinal; got != math.MaxUint32 {
		t.Errorf("ordinal %d", got)
	}
}

// The golden files hold format 1 for ever: later code has to read them, and to write them the same.
func TestGoldenBatch(t *testing.T)       { testGolden(t, "batch.v1.hex", everyOp()) }
func TestGoldenExpiries(t *testing.T)    { testGolden(t, "expiries.v1.hex", expiries()) }
func TestGoldenMembership(t *testing.T)  { testGolden(t, "membership.v1.hex", membership()) }
func TestGoldenDowngrades(t *testing.T)  { testGolden(t, "downgrades.v1.hex", downgrades()) }
func TestGoldenTrees(t *testing.T)       { testGolden(t, "tree.v1.hex", trees()) }
func TestGoldenTreeAccess(t *testing.T)  { testGolden(t, "treeaccess.v1.hex", treeAccess()) }
func TestGoldenTreeEmpty(t *testing.T)   { testGolden(t, "treeempty.v1.hex", treeEmpty()) }
func TestGoldenCheckpoints(t *testing.T) { testGolden(t, "checkpoints.v1.hex", checkpoints()) }
func TestGoldenUsers(t *testing.T)       { testGolden(t, "auth.v1.hex", users()) }

func testGolden(t *testing.T, name string, want []command.Command) {
	path := filepath.Join("testdata", name)
	batch := command.BeginBatch(nil, command.BatchID{Origin: 0x0123456789abcdef, Sequence: 42})
	for _, c := range want {
		batch = command.AppendTo(batch, c.Append(nil))
	}
	if *rewriteFlag {
		if err := os.WriteFile(path, []byte(hex.Dump(batch)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if hex.Dump(batch) != string(golden) {
		t.Fatalf("the format has changed:\n%s", hex.Dump(batch))
	}
	b, err := command.OpenBatch(undump(t, string(golden)))
	if err != nil {
		t.Fatal(err)
	}
	if b.Count() != len(want) {
		t.Errorf("%d commands, want %d", b.Count(), len(want))
	}
	for i := 0; ; i++ {
		c, ok, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			if i != len(want) {
				t.Errorf("%d commands, want %d", i, len(want))
			}
			break
		}
		if !reflect.DeepEqual(c, want[i]) {
			t.Errorf("command %d: got %+v, want %+v", i, c, want[i])
		}
	}
}

// undump reads what hex.Dump has written.
func undump(t *testing.T, dump string) []byte {
	var b []byte
	for line := range strings.Lines(dump) {
		digits, _, _ := strings.Cut(line[10:], "|")
		part, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

func TestBatchRefuses(t *testing.T) {
	head := command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: 2})
	noop := (&command.Command{Op: &command.Noop{}}).Append(nil)
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"half a head":     head[:16],
		"a later version": append([]byte{2}, head[1:]...),
	} {
		if _, err := command.OpenBatch(b); !errors.Is(err, command.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tail := range map[string][]byte{
		"a command cut off":      {4, 0xea, 0x01},
		"a length of 2^64 - 1":   {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a length without end":   {0x80},
		"an empty command":       {0},
		"a command of no format": {1, 0xff},
	} {
		b, err := command.OpenBatch(append(command.AppendTo(bytes.Clone(head), noop), tail...))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := b.Next(); !ok || err != nil {
			t.Fatalf("%s: the command before: %v, %v", name, ok, err)
		}
		if c, ok, err := b.Next(); ok || !errors.Is(err, command.ErrMalformed) {
			t.Errorf("%s: got %+v, %v, %v", name, c, ok, err)
		}
	}
}

// What is brief looks at single keys, whatever it does with them.
func TestIsBrief(t *testing.T) {
	one, many := []byte("k"), []byte("z")
	put := &command.Put{Key: one, Value: []byte("v"), Lease: 1}
	brief := []command.Op{
		put, &command.DeleteRange{Key: one}, &command.LeaseGrant{ID: 1}, &command.Noop{},
		&command.Txn{Compares: []command.Compare{{Key: one}}, Success: []command.Op{put, &command.Txn{Failure: []command.Op{put}}}, Failure: []command.Op{&command.Range{Key: one}}},
	}
	long := []command.Op{
		&command.DeleteRange{Key: one, End: many}, &command.Compact{Revision: 1}, &command.LeaseRevoke{ID: 1}, &command.MemberRemove{ID: 1}, &command.TreeDelete{},
		&command.Txn{Compares: []command.Compare{{Key: one, End: many}}},
		&command.Txn{Failure: []command.Op{put, &command.Range{Key: one, End: many}}},
		&command.Txn{Success: []command.Op{&command.Txn{Success: []command.Op{&command.DeleteRange{Key: one, End: many}}}}},
	}
	batch := func(ops ...command.Op) []byte {
		b := command.BeginBatch(nil, command.BatchID{})
		for _, op := range ops {
			c := command.Command{Op: op}
			b = command.AppendTo(b, c.Append(nil))
		}
		return b
	}
	if b := batch(brief...); !command.IsBrief(b) || !command.IsBrief(batch()) || command.IsBrief(b[:len(b)-1]) || command.IsBrief(nil) {
		t.Error("what is brief and whole is brief, and nothing else")
	}
	for _, op := range long {
		if command.IsBrief(batch(put, op)) {
			t.Errorf("%T %+v is brief", op, op)
		}
	}
}

func TestEmptyBatch(t *testing.T) {
	id := command.BatchID{Origin: math.MaxUint64, Sequence: 7}
	b, err := command.OpenBatch(command.BeginBatch(nil, id))
	if err != nil || b.ID != id || b.Count() != 0 {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, ok, err := b.Next(); ok || err != nil {
		t.Errorf("a command out of nothing: %v, %v", ok, err)
	}
}

// A put is decoded into one object, and encoded into none.
func TestAllocationsOfAPut(t *testing.T) {
	c := command.Command{Time: 1, Op: &command.Put{Key: []byte("key"), Value: make([]byte, 256), Lease: 99}}
	buf := c.Append(nil)
	if n := testing.AllocsPerRun(100, func() { buf = c.Append(buf[:0]) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { command.Decode(buf) }); n > 1 {
		t.Errorf("Decode allocates %v times", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range all() {
		f.Add(c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := command.Decode(b)
		if err != nil {
			if !errors.Is(err, command.ErrMalformed) || c.Op != nil {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		encoded := c.Append(nil)
		again, err := command.Decode(encoded)
		if err != nil {
			t.Fatalf("%+v does not decode again: %v", c, err)
		}
		if !bytes.Equal(again.Append(nil), encoded) {
			t.Fatalf("%+v and %+v differ", c, again)
		}
	})
}

func FuzzOpenBatch(f *testing.F) {
	batch := command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: 2})
	f.Add(bytes.Clone(batch))
	for _, c := range everyOp() {
		batch = command.AppendTo(batch, c.Append(nil))
	}
	f.Add(batch)
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := command.OpenBatch(b)
		if err != nil {
			return
		}
		count, n := batch.Count(), 0
		if count > len(b) {
			t.Fatalf("%d commands in %d bytes", count, len(b))
		}
		for {
			_, ok, err := batch.Next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			n++
		}
		if n != count {
			t.Fatalf("%d commands, Count says %d", n, count)
		}
	})
}
