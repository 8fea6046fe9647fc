package raftlog

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func TestWalk(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{10, 2})
	mustAppend(t, l, Batch{HardState: stateOf(2, 1, 11), Entries: entriesOf(11, 2, "a", "b", "c")})
	mustAppend(t, l, Batch{HardState: stateOf(3, 1, 11), Entries: entriesOf(12, 3, "d")})
	long := string(make([]byte, 3000)) // more than one segment
	mustAppend(t, l, Batch{HardState: stateOf(3, 1, 12), Entries: entriesOf(13, 3, long)})
	mustAppend(t, l, Batch{HardState: stateOf(3, 1, 13), Entries: entriesOf(14, 3, long)})
	mustNil(t, l.Close())
	before := readFiles(t, disk)

	var got []string
	mustNil(t, Walk(o, func(e *raftpb.Entry, committed bool) error {
		got = append(got, fmt.Sprintf("%d/%d %.1q %t", e.GetIndex(), e.GetTerm(), e.GetData(), committed))
		return nil
	}))
	want := []string{`11/2 "a" true`, `12/3 "d" true`, `13/3 "\x00" true`, `14/3 "\x00" false`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, b := range readFiles(t, disk) {
		if !slices.Equal(b, before[name]) {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestWalkEndsWithItsCaller(t *testing.T) {
	o := testOptions(newDisk(t))
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{HardState: stateOf(1, 1, 0), Entries: entriesOf(1, 1, "a", "b")})
	mustNil(t, l.Close())
	enough := errors.New("enough")
	calls := 0
	if err := Walk(o, func(*raftpb.Entry, bool) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestWalkRefuses(t *testing.T) {
	o := testOptions(newDisk(t))
	nothing := func(*raftpb.Entry, bool) error { return nil }
	if err := Walk(o, nothing); !errors.Is(err, ErrNoLog) {
		t.Errorf("no log: %v", err)
	}
	mustNil(t, mustCreate(t, o, Position{}).Close())
	o.MemberID++
	if err := Walk(o, nothing); !errors.Is(err, ErrWrongMember) {
		t.Errorf("another member's: %v", err)
	}
}
