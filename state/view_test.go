package state

import (
	"fmt"
	"sync"
	"testing"

	"keelson/command"
	"keelson/state/lease"
)

// Readers beside Apply see whole commands, see what was applied before they came, and never go back.
func TestViewsBesideApply(t *testing.T) {
	x := newMember(t)
	const commands = 300
	x.do(&command.LeaseGrant{ID: 1, TTLSeconds: 5})
	done := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(done)
	for range 3 {
		readers.Go(func() {
			last := int64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := x.readPair(&last); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range commands {
		value := key(fmt.Sprint(i))
		x.do(
			&command.Txn{Success: []command.Op{&command.Put{Key: key("a"), Value: value, Lease: 1}, &command.Put{Key: key("b"), Value: value, Lease: 1}}},
			&command.MemberPublish{ID: 1, Name: string(value)},
		)
		if i%50 == 49 {
			x.do(&command.LeaseRevoke{ID: 1}, &command.LeaseGrant{ID: 1, TTLSeconds: 5})
		}
	}
}

// readPair reads "a" and "b", which change together.
func (x *member) readPair(last *int64) error {
	index := x.m.Applied().Index
	v := x.m.View()
	defer v.Close()
	res, err := v.Txn(&command.Txn{Success: []command.Op{
		&command.Range{Key: key("a")}, &command.Range{Key: key("b")}, &command.Range{Key: key("a"), End: []byte{0}},
	}})
	if err != nil {
		return err
	}
	a, b := res.Responses[0], res.Responses[1]
	if a.Count != b.Count || res.Responses[2].Count != 2*a.Count {
		return fmt.Errorf("counts %d, %d, %d", a.Count, b.Count, res.Responses[2].Count)
	}
	if a.Count == 1 && (string(a.KVs[0].Value) != string(b.KVs[0].Value) || a.KVs[0].ModRevision != b.KVs[0].ModRevision) {
		return fmt.Errorf("torn: %s, %s", printPair(&a.KVs[0]), printPair(&b.KVs[0]))
	}
	// Nearly every entry has a revision of its own; some have none.
	if res.Revision < *last || res.Revision < int64(index)-20 {
		return fmt.Errorf("revision %d after %d, at index %d", res.Revision, *last, index)
	}
	*last = res.Revision
	l, keys, ok, err := v.LeaseWithKeys(1)
	if err != nil {
		return err
	}
	if ok && (l.ID != 1 || len(keys) != 0 && len(keys) != 2) {
		return fmt.Errorf("lease %+v with keys %q", l, keys)
	}
	return nil
}

func TestViewReads(t *testing.T) {
	x := newMember(t)
	old := x.m.View()
	defer old.Close()
	x.do(
		&command.LeaseGrant{ID: 7, TTLSeconds: 60}, &command.Put{Key: key("b"), Lease: 7}, &command.Put{Key: key("a"), Lease: 7},
		&command.MemberPublish{ID: 1, Name: "one"}, &command.Alarm{Member: 1, Type: 1, Raise: true},
	)
	v := x.m.View()
	defer v.Close()
	if old.Revision() != 1 || old.Members().List()[0].Name != "" || old.Alarms().NoSpace() {
		t.Errorf("the old view has changed")
	}
	if v.Revision() != 3 || v.Members().List()[0].Name != "one" || !v.Alarms().NoSpace() {
		t.Errorf("the new view is not new")
	}
	l, keys, ok, err := v.LeaseWithKeys(7)
	if !ok || err != nil || l.TTLSeconds != 60 || fmt.Sprintf("%s", keys) != "[a b]" {
		t.Errorf("%+v, %q, %v, %v", l, keys, ok, err)
	}
	if _, _, ok, err := v.LeaseWithKeys(8); ok || err != nil {
		t.Errorf("a lease out of nothing: %v, %v", ok, err)
	}
	var ids []lease.ID
	if err := v.Leases(func(l lease.Lease) bool { ids = append(ids, l.ID); return true }); err != nil || len(ids) != 1 {
		t.Errorf("%v, %v", ids, err)
	}
}
