package auth

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"keelson/command"
	"keelson/storage"
)

// Scripts in testdata/tx say what each op does: one op a line, printed with its outcome and what it says of tokens; then
// what users and roles are afterwards, and are once more when they have been read back.
func TestTxScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/tx", func(t *testing.T, path string) {
		x := newTable(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			x.t = t
			var b strings.Builder
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				tokens, err := x.apply(parse(t, words))
				if err != nil {
					fmt.Fprintf(&b, "%s: %v\n", words[0], err)
				}
				for _, c := range tokens {
					fmt.Fprintf(&b, "%s: tokens %d user %q digest %q index %d\n", words[0], c.Kind, c.User, c.Digest, c.Index)
				}
			}
			if d.Cmd == "show" {
				before := dump(x.set)
				x.load()
				if after := dump(x.set); after != before {
					t.Fatalf("read back:\n%s\nwas\n%s", after, before)
				}
				b.WriteString(before)
			}
			return b.String()
		})
	})
}

// parse reads an op; words may be in quotes.
func parse(t testing.TB, words []string) command.Op {
	w := append(append([]string(nil), words...), "", "", "", "")
	for i := range w {
		if u, err := strconv.Unquote(w[i]); err == nil {
			w[i] = u
		}
	}
	bytes := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	switch w[0] {
	case "enable":
		return &command.AuthEnable{}
	case "disable":
		return &command.AuthDisable{}
	case "user":
		return &command.UserAdd{Name: w[1], Hash: bytes(w[2]), NoPassword: w[3] == "no-password"}
	case "drop-user":
		return &command.UserDelete{Name: w[1]}
	case "password":
		return &command.UserChangePassword{Name: w[1], Hash: bytes(w[2])}
	case "grant":
		return &command.UserGrantRole{Name: w[1], Role: w[2]}
	case "revoke":
		return &command.UserRevokeRole{Name: w[1], Role: w[2]}
	case "role":
		return &command.RoleAdd{Name: w[1]}
	case "drop-role":
		return &command.RoleDelete{Name: w[1]}
	case "permit":
		access, err := strconv.Atoi(w[2])
		if err != nil {
			t.Fatal(err)
		}
		return &command.RoleGrantPermission{Role: w[1], Access: int32(access), Key: bytes(w[3]), End: bytes(w[4])}
	case "forbid":
		return &command.RoleRevokePermission{Role: w[1], Key: bytes(w[2]), End: bytes(w[3])}
	case "token":
		return &command.TokenAssign{User: w[1], Digest: bytes(w[2])}
	}
	t.Fatalf("unknown op %q", words)
	return nil
}

// The golden file holds format 1 for ever: later code has to read it, and to write it the same.
func TestGoldenRecords(t *testing.T) {
	user := &User{Name: "alice", Hash: []byte("$2a$10$x"), NoPassword: true, Roles: []string{"a", "root"}}
	role := &Role{Name: "r", Permissions: []Permission{{Read, []byte("a"), nil}, {math.MinInt32, []byte("b"), []byte{0}}}}
	got := hex.EncodeToString(encodeStatus(true, 1<<63)) + "\n" + hex.EncodeToString(encodeUser(user)) + "\n" + hex.EncodeToString(encodeRole(role)) + "\n"
	want, err := os.ReadFile(filepath.Join("testdata", "records.v1.hex"))
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the format has changed:\n%s", got)
	}
	lines := strings.Split(got, "\n")
	raw := func(i int) []byte { b, _ := hex.DecodeString(lines[i]); return b }
	if enabled, revision, err := decodeStatus(raw(0)); !enabled || revision != 1<<63 || err != nil {
		t.Errorf("status: %v %d %v", enabled, revision, err)
	}
	if u, err := decodeUser("alice", raw(1)); err != nil || !reflect.DeepEqual(u, user) {
		t.Errorf("user: %+v, %v", u, err)
	}
	if r, err := decodeRole("r", raw(2)); err != nil || !reflect.DeepEqual(r, role) {
		t.Errorf("role: %+v, %v", r, err)
	}
	for i := range 3 {
		for n := range raw(i) {
			cut := raw(i)[:n]
			_, _, e1 := decodeStatus(cut)
			_, e2 := decodeUser("", cut)
			_, e3 := decodeRole("", cut)
			if err := []error{e1, e2, e3}[i]; err == nil {
				t.Errorf("record %d cut at %d is read", i, n)
			}
		}
	}
}

// Damage is found when it is read, and says nothing of a password's hash.
func TestDamagedRecords(t *testing.T) {
	for name, record := range map[string]struct {
		key   string
		value []byte
	}{
		"unknown kind":  {"x", []byte{1}},
		"later status":  {"s", []byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"flags":         {"uann", []byte{1, 2, 3, 's', 'e', 'c', 0}},
		"more than all": {"uann", []byte{1, 0, 3, 's', 'e', 'c', 0, 0}},
		"many roles":    {"uann", []byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		"later role":    {"rr", []byte{2, 0}},
	} {
		x := newTable(t)
		b := x.db.NewBatch()
		b.Set(storage.Auth, []byte(record.key), record.value)
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(x.db); err == nil || strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "736563") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is written in the state's hash differs wherever the records differ.
func TestWrittenTellsChangesApart(t *testing.T) {
	seen := map[string]string{}
	for _, op := range []command.Op{
		&command.UserAdd{Name: "a", Hash: []byte("bc")}, &command.UserAdd{Name: "ab", Hash: []byte("c")}, &command.UserAdd{Name: "a", NoPassword: true},
		&command.RoleAdd{Name: "a"}, &command.RoleAdd{Name: "ab"},
	} {
		x := newTable(t)
		tx := Begin(x.db.NewBatch(), x.set)
		if _, err := tx.Apply(op, 1); err != nil {
			t.Fatal(err)
		}
		w := string(tx.TakeWritten())
		if other, ok := seen[w]; ok || w == "" {
			t.Errorf("%+v and %s are written the same", op, other)
		}
		seen[w] = fmt.Sprintf("%+v", op)
		if len(tx.TakeWritten()) > 0 {
			t.Errorf("%+v is written twice", op)
		}
		tx.b.Discard()
	}
}
