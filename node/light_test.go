package node

import (
	"bytes"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/watch"
)

// counting is a client that counts what it is told.
type counting struct {
	t       *testing.T
	want    int
	events  int
	prevs   int // bytes of previous values
	keys    []byte
	done    chan struct{}
	created chan struct{}
}

func (c *counting) Send(r *watch.Response) error {
	if r.Created {
		close(c.created)
	}
	var m pb.WatchResponse
	if err := proto.Unmarshal(bytes.Join(r.Events, nil), &m); err != nil {
		c.t.Error(err)
	}
	for _, e := range m.Events {
		c.events++
		c.prevs += len(e.GetPrevKv().GetValue())
		c.keys = append(append(c.keys, e.Kv.Key...), ' ')
	}
	if c.events == c.want {
		close(c.done)
	}
	return nil
}

// Deleting more than can be held in memory holds back the previous pairs, and yet whoever watches is told of them.
func TestDeletingMoreThanIsHeld(t *testing.T) {
	const keys, valueBytes = 70, 1<<20 - 1024 // 64 MiB are held
	r := newRig(t, nil)
	value := bytes.Repeat([]byte("v"), valueBytes)
	for i := range keys {
		r.propose(&command.Put{Key: fmt.Appendf(nil, "k%02d", i), Value: value})
	}
	c := &counting{t: t, want: keys + 1, done: make(chan struct{}), created: make(chan struct{})}
	s := r.hub.NewStream(c)
	defer s.Close()
	s.Create(watch.Request{Key: []byte("k"), End: []byte("l"), PrevKV: true})
	<-c.created

	got := r.propose(&command.DeleteRange{Key: []byte("k"), End: []byte("l")})
	if got.Deleted != keys || got.Prevs != nil {
		t.Errorf("deleted %d with %d pairs, want %d without any", got.Deleted, len(got.Prevs), keys)
	}
	r.propose(&command.Put{Key: []byte("k99"), Value: []byte("x")})
	<-c.done
	var want []byte
	for i := range keys {
		want = fmt.Appendf(want, "k%02d ", i)
	}
	want = append(want, "k99 "...)
	if c.prevs != keys*valueBytes || !bytes.Equal(c.keys, want) {
		t.Errorf("told %d bytes of previous values, want %d; keys\n%s, want\n%s", c.prevs, keys*valueBytes, c.keys, want)
	}
}

// The same with the pairs asked for: they are in the result.
func TestDeletingMoreThanIsHeldWithPairs(t *testing.T) {
	const keys, valueBytes = 70, 1<<20 - 1024
	r := newRig(t, nil)
	value := bytes.Repeat([]byte("v"), valueBytes)
	for i := range keys {
		r.propose(&command.Put{Key: fmt.Appendf(nil, "k%02d", i), Value: value})
	}
	got := r.propose(&command.DeleteRange{Key: []byte("k"), End: []byte("l"), PrevKV: true})
	if len(got.Prevs) != keys {
		t.Fatalf("%d pairs, want %d", len(got.Prevs), keys)
	}
	for i := range got.Prevs {
		if !bytes.Equal(got.Prevs[i].Value, value) {
			t.Errorf("pair %d came with %d bytes", i, len(got.Prevs[i].Value))
		}
	}
}
