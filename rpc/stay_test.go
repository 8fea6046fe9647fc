package rpc

import (
	"reflect"
	"slices"
	"testing"
	"time"

	pb "google.golang.org/grpc/interop/grpc_testing"
)

// stayKit is a server with a service whose calls have the reader stay.
type stayKit struct {
	*kit
	calls int              // that there are said to be
	wait  func(stays bool) // what is done while the reader stays, or a worker does the same
	begun chan bool        // for each call: whether the reader stays for it
	done  chan struct{}    // for each call
}

func newStayKit(t *testing.T) *stayKit {
	k, l, _ := newLaterKit(t, Options{})
	s := &stayKit{kit: k, calls: 1, wait: func(bool) {}, begun: make(chan bool, 1000), done: make(chan struct{}, 1000)}
	l.before = func(d *Deferred) {
		c, calls, wait := d.s.conn, s.calls, s.wait
		d.Soon(func() {
			d.Stay(calls, func(waited func()) {
				stays := reflect.ValueOf(waited).Pointer() != reflect.ValueOf(nothing).Pointer()
				if stays && k.server.stays.now.Load() != c {
					t.Error("it is not known who stays")
				}
				s.begun <- stays
				wait(stays)
				waited()
				d.CompleteAndWrite(new(pb.SimpleResponse), nil)
				s.done <- struct{}{}
			})
		})
	}
	return s
}

// client is a client that has no more to say by itself.
func (s *stayKit) client() *rawClient {
	r := s.rawClient().hello()
	for id := uint32(1); id < 5; id += 2 { // what it says to the first settings comes before the second
		r.call(id)
		r.want(id, "200 0")
	}
	return r
}

// call makes a call and returns whether the reader stayed for it.
func (s *stayKit) call(r *rawClient, id uint32) (stayed bool) {
	r.later(id)
	r.want(id, "200 0")
	<-s.done
	return <-s.begun
}

// callUntilStayed makes calls until the reader stays for one, and returns that one's id; all others are done. finish lets it go on.
func (s *stayKit) callUntilStayed(r *rawClient, id uint32) (last uint32, finish func()) {
	held := make(chan struct{})
	s.wait = func(stays bool) {
		if stays {
			<-held
		}
	}
	for r.later(id); !<-s.begun; r.later(id) {
		r.want(id, "200 0")
		<-s.done
		id += 2
	}
	return id, func() {
		close(held)
		r.want(id, "200 0")
		<-s.done
	}
}

// disturb says something while the reader stays, and waits until that has come.
func (s *stayKit) disturb(r *rawClient) {
	r.framer.WritePing(false, [8]byte{1})
	c := s.server.stays.now.Load()
	for end := time.Now().Add(10 * time.Second); !c.look.HasInput(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Error("nothing has come")
			return
		}
	}
}

// The reader stays where nobody misses it.
func TestStay(t *testing.T) {
	s := newStayKit(t)
	r := s.client()
	for id := uint32(5); id < 15; id += 2 {
		if !s.call(r, id) {
			t.Errorf("not for call %d, the only one", id)
		}
	}
	s.calls = 2
	if s.call(r, 15) {
		t.Error("for two calls, of which one is another connection's")
	}
	s.calls = 1
	r.headers(17, false, callFields(laterPath)...) // a call that has just begun
	if s.call(r, 19) {
		t.Error("beside a call that is not deferred")
	}
	r.data(17, true, prefixed(""))
	r.want(17, "200 0")
	<-s.done
	if !<-s.begun {
		t.Error("not for the only one that is left")
	}

	s.calls = 3
	r.together(func() {
		for id := uint32(21); id < 27; id += 2 {
			r.later(id)
		}
	})
	stays := 0
	for id := uint32(21); id < 27; id += 2 {
		r.want(id, "200 0")
		<-s.done
		if <-s.begun {
			stays++
		}
	}
	if stays != 1 {
		t.Errorf("for %d of three that came together", stays)
	}
}

// A reader does not stay for a while when something came meanwhile; the more often, the longer.
func TestStayIsMissed(t *testing.T) {
	s := newStayKit(t)
	s.server.stays.every = time.Hour // however slow the machine is
	r := s.client()
	id, pauses := uint32(5), []int{}
	for range 4 {
		for i := range 2 {
			next, finish := s.callUntilStayed(r, id)
			s.disturb(r)
			finish()
			if i == 1 {
				pauses = append(pauses, int(next-id)/2)
			}
			id = next + 2
		}
		next, finish := s.callUntilStayed(r, id)
		finish()
		id = next + 2
	}
	if want := []int{1, 2, 4, 8}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
}

// While a reader stays for longer than it should, another one goes on, as often as that is so.
func TestStayTooLong(t *testing.T) {
	s := newStayKit(t)
	r := s.client()
	id := uint32(5)
	for range 4 {
		last, finish := s.callUntilStayed(r, id)
		if s.call(r, last+2) { // which nobody reads but another reader
			t.Error("two stay at a time")
		}
		finish()
		id = last + 4
	}
	if s.server.stays.now.Load() != nil && s.server.stays.now.Load().since.Load()%2 == 1 {
		t.Error("somebody stays still")
	}
}

// A connection ends while its reader stays, and the server with it.
func TestStopWhileStaying(t *testing.T) {
	s := newStayKit(t)
	r := s.client()
	held := make(chan struct{})
	s.wait = func(bool) { <-held }
	r.later(5)
	if !<-s.begun {
		t.Fatal("it does not stay")
	}
	s.server.Stop() // another reader finds the end
	if s.server.stays.guarded.Load() || s.server.stays.begin(new(conn)) {
		t.Error("a server that has stopped has readers that stay")
	}
	close(held)
	<-s.done
}

// What a reader would have stayed for is done if the connection ends first.
func TestStayAtTheEnd(t *testing.T) {
	s := newStayKit(t)
	r := s.client()
	r.together(func() {
		r.later(5)
		r.framer.WriteData(0, false, []byte("of no stream"))
	})
	if <-s.begun {
		t.Error("it stays")
	}
	<-s.done
}

// The guard goes when nobody has stayed for a while, and comes back.
func TestStayGuard(t *testing.T) {
	s := newStayKit(t)
	r := s.client()
	s.wait = func(bool) {
		if !s.server.stays.guarded.Load() {
			t.Error("nobody looks")
		}
	}
	for id := uint32(5); id < 9; id += 2 {
		if !s.call(r, id) {
			t.Fatal("it does not stay")
		}
		for end := time.Now().Add(20 * time.Second); s.server.stays.guarded.Load(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the guard does not go")
			}
		}
	}
}
