package differential

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keelson/peer/process"
)

var falsehoods = flag.Int("falsehoods", 25, "rounds of the self-check")

// falsifier sits in the candidate's connection and, once armed, changes one field of one response. It shows that the
// comparison would notice a server that does.
type falsifier struct {
	mu     sync.Mutex
	rng    *rand.Rand
	skip   int    // responses to let pass first; negative: not armed
	change string // what was changed; empty: nothing yet
}

// arm lets the next few responses pass and changes the one after them.
func (f *falsifier) arm(skip int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skip, f.change = skip, ""
}

func (f *falsifier) disarm() (change string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skip = -1
	return f.change
}

// see is called with every response before the comparison gets it.
func (f *falsifier) see(message any) {
	m, ok := message.(proto.Message)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.skip < 0 {
		return
	}
	if f.skip--; f.skip >= 0 {
		return
	}
	sites := sitesIn(m.ProtoReflect(), string(m.ProtoReflect().Descriptor().Name()))
	if len(sites) == 0 {
		f.skip = 0
		return
	}
	site := sites[f.rng.IntN(len(sites))]
	site.apply()
	f.change = site.name
}

// dial returns the options that put the falsifier into a connection.
func (f *falsifier) dial() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if err == nil {
				f.see(reply)
			}
			return err
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := streamer(ctx, desc, cc, method, opts...)
			return &falsifiedStream{stream, f}, err
		}),
	}
}

type falsifiedStream struct {
	grpc.ClientStream
	falsifier *falsifier
}

func (s *falsifiedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.falsifier.see(m)
	}
	return err
}

// site is one place in a response that can be changed.
type site struct {
	name  string
	apply func()
}

// sitesIn lists the places in a message whose change must be noticed.
func sitesIn(m protoreflect.Message, path string) (sites []site) {
	add := func(name string, apply func()) { sites = append(sites, site{path + "." + name, apply}) }
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := string(field.Name())
		switch {
		case field.IsList() && field.Message() != nil:
			list := m.Mutable(field).List()
			if list.Len() > 0 {
				add(name+" cut", func() { list.Truncate(list.Len() - 1) })
			}
			for j := range list.Len() {
				sites = append(sites, sitesIn(list.Get(j).Message(), fmt.Sprintf("%s.%s[%d]", path, name, j))...)
			}
		case field.IsList():
		case field.Message() != nil:
			if events, ok := m.Interface().(*pb.WatchResponse); ok && name == "header" && len(events.Events) > 0 {
				// It may be anything from the last event's revision to the current one.
				add(name+".revision", func() { events.Header.Revision = events.Events[len(events.Events)-1].Kv.ModRevision - 1 })
			} else if m.Has(field) {
				add(name+" dropped", func() { m.Clear(field) })
				sites = append(sites, sitesIn(m.Mutable(field).Message(), path+"."+name)...)
			}
		case !m.Has(field) && field.ContainingOneof() != nil:
		default:
			if change := falseValue(m, field); change != nil {
				add(name, change)
			}
		}
	}
	return sites
}

// falseValue returns what makes a scalar field wrong, nil for one whose value is each server's own.
func falseValue(m protoreflect.Message, field protoreflect.FieldDescriptor) func() {
	value := m.Get(field)
	set := func(v any) func() { return func() { m.Set(field, protoreflect.ValueOf(v)) } }
	switch message := m.Interface().(type) {
	case *pb.ResponseHeader:
		if field.Name() != "revision" {
			if value.Uint() == 0 {
				return set(uint64(7))
			}
			return set(uint64(0))
		}
	case *pb.LeaseTimeToLiveResponse:
		if field.Name() == "TTL" && message.TTL > 0 {
			return set(int64(5)) // one second more or less is no difference
		}
	case *pb.LeaseGrantResponse:
		if field.Name() == "ID" && message.ID > 1<<40 && message.ID != math.MaxInt64 {
			return nil // the server's choice
		}
	case *pb.WatchResponse:
		if field.Name() == "fragment" {
			return nil // a matter of sizes
		}
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		return set(!value.Bool())
	case protoreflect.Int64Kind:
		return set(value.Int() + 1)
	case protoreflect.Uint64Kind:
		return set(value.Uint() + 1)
	case protoreflect.Uint32Kind:
		return set(uint32(value.Uint()) + 1)
	case protoreflect.EnumKind:
		return func() { m.Set(field, protoreflect.ValueOfEnum(value.Enum()^1)) }
	case protoreflect.BytesKind:
		return set(append(append([]byte{}, value.Bytes()...), '!'))
	case protoreflect.StringKind:
		return set(value.String() + "!")
	}
	return nil
}

// TestFalsehoodIsNoticed runs operations against etcd twice, with one field of one response of the second changed, many
// times over, and demands a disagreement each time.
func TestFalsehoodIsNoticed(t *testing.T) {
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	t.Logf("seed %d", seed)
	lie := &falsifier{rng: rand.New(rand.NewPCG(seed, 1)), skip: -1}
	reference, candidate, end, err := servers(process.Etcd, lie.dial()...)
	if err != nil {
		t.Fatal(err)
	}
	defer end()

	run, disagreement, err := NewRun(reference, candidate)
	if disagreement != nil || err != nil {
		t.Fatal(disagreement, err)
	}
	defer run.Close()
	run.patience = 4 * time.Second // many of the falsehoods are an event that never comes

	noticed := 0
	for round := range *falsehoods {
		options := Options{Seed: seed + uint64(round), Ops: 40, Gentle: true, Without: map[Kind]bool{
			// These take seconds, or end a stream before what it said could be compared.
			KindExpiry: true, KindShortGrant: true, KindAlarm: true, KindWatchHalfClose: true,
		}}
		lie.arm(lie.rng.IntN(60))
		recording := &Recording{}
		if err := recording.extend(run, options, NewGenerator(options, run)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		// Unless they disagree, the streams have ended, so whatever was changed has been looked at.
		change := lie.disarm()
		switch {
		case change != "" && recording.Disagreement == nil:
			for i, op := range recording.Ops {
				t.Logf("  %d %v", i, op)
			}
			t.Fatalf("round %d (seed %d): nobody noticed that %s was changed", round, options.Seed, change)
		case change == "" && recording.Disagreement != nil:
			t.Fatalf("round %d: a disagreement about nothing: %v", round, recording.Disagreement)
		case change != "":
			t.Logf("round %d: %s: %.120s", round, change, recording.Disagreement.Difference)
			noticed++
		}
		// The model goes by the reference, which said nothing wrong, so only the streams are spoilt.
		if fault, err := run.resume(); fault != "" || err != nil {
			t.Fatal(fault, err)
		}
	}
	t.Logf("%d falsehoods in %d rounds were noticed", noticed, *falsehoods)
	if noticed < *falsehoods/4 {
		t.Errorf("only %d of %d rounds had a falsehood", noticed, *falsehoods)
	}
}
