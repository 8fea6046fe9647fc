package inspect

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/internal/testkit"
)

// entryWith is an entry with commands of user root, one second after 1970 began.
func entryWith(ops ...command.Op) *raftpb.Entry {
	batch := command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: 1})
	for _, op := range ops {
		c := command.Command{Time: int64(time.Second), User: "root", Op: op}
		batch = command.AppendTo(batch, c.Append(nil))
	}
	return &raftpb.Entry{Index: new(uint64(7)), Term: new(uint64(3)), Data: batch}
}

func TestCommandsOfEntry(t *testing.T) {
	change, err := proto.Marshal(&raftpb.ConfChangeV2{Context: entryWith(&command.MemberRemove{ID: 5}).Data})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		entry *raftpb.Entry
		ops   []string
	}{
		{"raft's own", &raftpb.Entry{Index: new(uint64(7)), Term: new(uint64(3))}, nil},
		{"several in one", entryWith(&command.Compact{Revision: 4}, &command.LeaseRevoke{ID: 9, Term: 3}), []string{
			`{"Compact":{"Revision":4}}`,
			`{"LeaseRevoke":{"ID":9,"Term":3,"GrantIndex":0,"GrantOrdinal":0}}`,
		}},
		{"what a txn holds has names, too", entryWith(&command.Txn{
			Compares: []command.Compare{{Key: []byte("k"), Number: 2}},
			Success:  []command.Op{&command.Txn{Failure: []command.Op{&command.DeleteRange{Key: []byte("k")}}}},
		}), []string{
			`{"Txn":{"Compares":[{"Key":"aw==","End":null,"Target":0,"Result":0,"Number":2,"Value":null}],"Failure":[],"Success":[` +
				`{"Txn":{"Compares":null,"Failure":[{"DeleteRange":{"Key":"aw==","End":null,"PrevKV":false}}],"Success":[]}}]}}`,
		}},
		{"no hash of a password", entryWith(
			&command.UserAdd{Name: "u", Hash: []byte("h")}, &command.UserChangePassword{Name: "u", Hash: []byte("h")},
		), []string{
			`{"UserAdd":{"Name":"u","Hash":null,"NoPassword":false}}`, `{"UserChangePassword":{"Name":"u","Hash":null}}`,
		}},
		{"a change of the members", &raftpb.Entry{
			Index: new(uint64(7)), Term: new(uint64(3)), Type: raftpb.EntryConfChangeV2.Enum(), Data: change,
		}, []string{`{"MemberRemove":{"ID":5}}`}},
	}
	for _, c := range cases {
		var got strings.Builder
		if err := writeCommands(&got, c.entry, true); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		want := ""
		for _, op := range c.ops {
			want += `{"index":7,"term":3,"committed":true,"time":"1970-01-01T00:00:01Z","user":"root","op":` + op + "}\n"
		}
		if got.String() != want {
			t.Errorf("%s:\n%swant\n%s", c.name, got.String(), want)
		}
	}
	hash := entryWith(&command.TreeUser{Name: "u", Hash: []byte("secret")})
	var got strings.Builder
	if err := writeCommands(&got, hash, true); err != nil || strings.Contains(got.String(), "c2VjcmV0") || !strings.Contains(got.String(), `"Name":"u"`) {
		t.Errorf("a user of the v2 API: %s, %v", got.String(), err)
	}
	if err := writeCommands(&got, &raftpb.Entry{Index: new(uint64(7)), Data: []byte{9}}, true); err == nil || !strings.HasPrefix(err.Error(), "entry 7: ") {
		t.Errorf("an entry that can't be read: %v", err)
	}
}

// What a client did is in the log that its member leaves behind.
func TestInspectCommands(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	if _, err := p.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	out := run(t, "inspect", "log", p.DataDir, "--commands")
	if !strings.Contains(out, `"op":{"Put":{"Key":"aw==","Value":"dg==",`) {
		t.Errorf("no put in\n%s", out)
	}
}
